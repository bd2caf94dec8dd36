"""Tables of text: columns aligned under a rule."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned"]


def aligned(lines: Sequence[Sequence[str]], left: int, totals: int = 0) -> str:
    """The first line is a head; the first `left` columns begin at the left, others end at the right.

    A second rule stands above the last `totals` lines.
    """
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    text.insert(1, rule)
    if totals:
        text.insert(len(text) - totals, rule)
    return "\n".join(text)
