"""A what-if as text: each layer now and then, the closed form with its numbers, and what cannot have the form."""

from __future__ import annotations

import textwrap
from collections import Counter

from convfold.cost.tables.columns import TOTALS
from convfold.cost.tables.text import aligned
from convfold.cost.tables.units import human, human_bytes
from convfold.cost.what_if.scenario import Figures, Scenario

__all__ = ["scenario_text"]


def scenario_text(found: Scenario, width: int | None = None) -> str:
    """The scenario in the given width; paths are shortened to fit it."""
    parts = [f"What if: {found.name}"]
    if found.changed:
        rows = [
            (
                one.path,
                _change(one.now, one.then, "macs"),
                _change(one.now, one.then, "params"),
                f"{one.letters} = {one.numbers} = {one.ratio:.4g}",
            )
            for one in found.changed
        ]
        room = 0 if width is None else max(16, width - 2 * 3 - sum(max(len(r[i]) for r in rows) for i in (1, 2, 3)))
        rows = [(_end(path, room), macs, params, closed) for path, macs, params, closed in rows]
        parts.append(_closed_last(rows))
        parts.append("  C, N channels in and out; K taps; I, S positions in and out; g groups of the layer")
    said = Counter((one.type, one.reason) for one in found.kept)
    if said:
        first = {(one.type, one.reason): one.path for one in reversed(found.kept)}
        lines = [
            f"{kind} x{count} ({first[kind, reason] or 'the model'}{', ...' if count > 1 else ''}): {reason}"
            for (kind, reason), count in said.items()
        ]
        wrapped = [textwrap.fill(one, width or 110, initial_indent="  ", subsequent_indent="      ") for one in lines]
        parts.append("Left as they are:\n" + "\n".join(wrapped))
    totals = [("total", "now", f"as {found.spec}", "ratio"), *(_total(name, found) for name in Figures._fields)]
    parts.append(aligned(totals, 1))
    return "\n\n".join(parts)


def _change(now: Figures, then: Figures, name: str) -> str:
    return f"{human(getattr(now, name))} -> {human(getattr(then, name))}"


def _closed_last(rows: list[tuple[str, str, str, str]]) -> str:
    """Figures to the right, the closed form to the left behind them."""
    figures = aligned([("layer", "MACs", "parameters"), *(row[:3] for row in rows)], 1).split("\n")
    head, rule, *body = figures
    size = max(len(line) for line in (head, *body))
    lines = [f"{line.ljust(size)}  {row[3]}" for line, row in zip(body, rows, strict=True)]
    longest = max(map(len, lines))
    return "\n".join([f"{head.ljust(size)}  MACs ratio", "-" * max(longest, len(rule)), *lines])


def _total(name: str, found: Scenario) -> tuple[str, ...]:
    now, then = getattr(found.now, name), getattr(found.then, name)
    write = human_bytes if name.endswith("bytes") else human
    exact = f" ({then:,})" if name == "macs" else ""
    return TOTALS[name], write(now), f"{write(then)}{exact}", f"{then / now:.4g}" if now else ""


def _end(path: str, room: int) -> str:
    return path if not room or len(path) <= room else f"…{path[len(path) - room + 1 :]}"
