"""A plan as text: a table of regions, the refusals with their reasons, and the totals."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile, zip_longest

from convfold.cost import Totals
from convfold.errors import Refusal
from convfold.plan.regions import Region

__all__ = ["render", "table"]

_MOST = (28, 21, 31, 23, 9)  # characters of the columns of a plan
_LONGEST = 32  # characters of two paths that are still written out


def table(head: Sequence[str], rows: Sequence[Sequence[str]], most: Sequence[int] = ()) -> str:
    """Aligned columns under a rule; cells longer than their column's `most` go on in the next line."""
    lines: list[Sequence[str]] = []
    for row in (head, *rows):
        cells = [_wrapped(cell, most[column] if most else 0) for column, cell in enumerate(row)]
        lines += zip_longest(*cells, fillvalue="")
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def _wrapped(cell: str, most: int) -> list[str]:
    return textwrap.wrap(cell, most, subsequent_indent="  ") or [""] if most else [cell]


def _modules(paths: tuple[str, ...]) -> str:
    """The modules of a region: both of two short ones, else what their paths have in common, and how many they are."""
    named = " + ".join(path or "(the model)" for path in paths)
    if len(paths) == 1 or (len(paths) == 2 and len(named) <= _LONGEST):
        return named
    split = [path.split(".") for path in paths]
    common = takewhile(lambda names: len(set(names)) == 1, zip(*split, strict=False))
    prefix = ".".join(names[0] for names in common)
    return f"{prefix or f'{paths[0]} to {paths[-1]}'} ({len(paths)} modules)"


def _types(types: tuple[str, ...]) -> str:
    return ", ".join(f"{name} x{count}" if count > 1 else name for name, count in Counter(types).items())


def _result(text: str) -> str:
    """A module as torch prints it, without what is the default and without names."""
    found = Counter(text.split("; "))
    return "; ".join(f"{_brief(part)}{f' x{count}' if count > 1 else ''}" for part, count in found.items())


def _brief(text: str) -> str:
    text = re.sub(r"\((\d+(?:, \d+)*),?\)", lambda tuple_: "x".join(tuple_[1].split(", ")), text)
    return re.sub(r", stride=1(x1)*(?=[,)])", "", text.replace("kernel_size=", ""))


def _macs(region: Region) -> tuple[str, str]:
    if region.before is None or region.after is None:
        return "unknown", "unknown"
    before, after = region.before, region.after
    return f"{before.macs:,} -> {after.macs:,}", f"{before.operators} -> {after.operators}"


def _rows(regions: tuple[Region, ...]) -> list[tuple[str, ...]]:
    """One row for each region; those that are alike stand together in the row of the first."""
    alike: dict[tuple[str, ...], list[Region]] = {}
    for region in regions:
        alike.setdefault((_types(region.types), _result(region.result), *_macs(region)), []).append(region)
    rows = []
    for (types, result, *figures), group in alike.items():
        more = f", and {len(group) - 1} alike" if len(group) > 1 else ""
        rows.append((_modules(group[0].paths) + more, types, result, *figures))
    return rows


def render(
    regions: tuple[Region, ...],
    refusals: tuple[Refusal, ...],
    before: Totals | None,
    after: Totals | None,
    limits: Sequence[str] = (),
) -> str:
    """The whole plan as text."""
    parts: list[str] = []
    if regions:
        head = ("module", "type", "becomes", "MACs", "operators")
        parts.append(table(head, _rows(regions), _MOST))
    else:
        parts.append("Nothing folds.")
    if limits:
        after_all = ["Inputs of other sizes are refused."] if regions else []
        parts.append("Holds for some sizes:\n" + "\n".join(f"  {limit}" for limit in (*limits, *after_all)))
    if refusals:
        parts.append("Left alone:\n" + "\n".join(f"  {refusal}" for refusal in refusals))
    if before is not None and after is not None:
        figures = [
            (name, f"{a:,}", f"{b:,}")
            for name, a, b in zip(("MACs", "convolutions", "operators", "parameters"), before, after, strict=True)
        ]
        parts.append(table(("total", "before", "after"), figures))
    else:
        parts.append("Costs: unknown without example inputs.")
    return "\n\n".join(parts)
