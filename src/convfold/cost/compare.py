"""Two counts beside one another: rows matched by their module, then by their type; what changed, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import Any

from convfold.cost.report import CostReport, Row
from convfold.cost.tables.columns import ADDED, COLUMNS, TOTALS, cell, figures
from convfold.cost.tables.text import aligned

__all__ = ["Comparison", "Pair", "compare"]

_SHOWN = ("macs", "flops", "params", "weight_bytes", "activation_bytes", "peak_bytes", "traffic_bytes")


@dataclass(frozen=True)
class Pair:
    """A row before and the one that it became; None on a side that has none."""

    before: Row | None
    after: Row | None

    @property
    def status(self) -> str:
        """same, changed, gone or new."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        one, two = figures(self.before, ADDED), figures(self.after, ADDED)
        return "same" if self.before.type == self.after.type and _added(one) == _added(two) else "changed"

    @property
    def path(self) -> str:
        """The module's path; both where it was renamed."""
        paths = [row.path or "(the model)" for row in (self.before, self.after) if row is not None]
        return " -> ".join(dict.fromkeys(paths))

    @property
    def type(self) -> str:
        """The module's class; both where it changed."""
        return " -> ".join(dict.fromkeys(row.type for row in (self.before, self.after) if row is not None))

    def matches(self, glob: str) -> bool:
        """Whether the path of either side does."""
        return any(fnmatchcase(row.path, glob) for row in (self.before, self.after) if row is not None)

    def figure(self, name: str) -> tuple[Any, Any]:
        """A figure on both sides; None where there is none."""
        one, two = (None if row is None else figures(row, (name,))[name] for row in (self.before, self.after))
        return one, two

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        sides = {side: None if row is None else row.to_dict() for side, row in (("a", self.before), ("b", self.after))}
        return {"status": self.status, **sides}


@dataclass(frozen=True)
class Comparison:
    """Two counts, called `names`, with their rows in pairs. Print it."""

    a: CostReport
    b: CostReport
    names: tuple[str, str]
    pairs: tuple[Pair, ...]

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The pairs that are not the same."""
        return tuple(pair for pair in self.pairs if pair.status != "same")

    def totals(self) -> dict[str, tuple[int, int, float | None]]:
        """Each total before, after, and the ratio of both; None where there is nothing to divide by."""
        found = {}
        for name in (*_SHOWN, "convolutions", "operators"):
            one, two = getattr(self.a, name), getattr(self.b, name)
            found[name] = (one, two, two / one if one else None)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        totals = {name: {"a": one, "b": two, "ratio": ratio} for name, (one, two, ratio) in self.totals().items()}
        return {
            "a": {"name": self.names[0], **self.a.to_dict()},
            "b": {"name": self.names[1], **self.b.to_dict()},
            "totals": totals,
            "rows": [pair.to_dict() for pair in self.pairs],
        }

    def __str__(self) -> str:
        return comparison_table(self)


def compare(a: CostReport, b: CostReport, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Match the rows of two counts: those of one path first, then a module with one of its type inside the other's.

    What is left is matched between two neighbours that have partners, in order of execution, by type and result. Rows
    are in the order of `a`; what only `b` has follows the row that it stands behind there.
    """
    at = {row.path: row for row in b.rows}
    found: dict[str, Row] = {row.path: at[row.path] for row in a.rows if row.path in at}
    _match_inside(a.rows, b.rows, found)
    _match_between(a.rows, b.rows, found)
    behind = _gaps(b.rows, {row.path for row in found.values()})
    placed = [Pair(None, row) for row in behind.get(None, ())]
    for row in a.rows:
        placed.append(Pair(row, found.get(row.path)))
        if row.path in found:
            placed += [Pair(None, new) for new in behind.get(found[row.path].path, ())]
    return Comparison(a, b, names, tuple(placed))


def _left(a: Sequence[Row], b: Sequence[Row], found: dict[str, Row]) -> tuple[list[Row], list[Row]]:
    taken = {row.path for row in found.values()}
    return [row for row in a if row.path not in found], [row for row in b if row.path not in taken]


def _match_inside(a: Sequence[Row], b: Sequence[Row], found: dict[str, Row]) -> None:
    """A module that was folded into one stands where it was, or takes the place of the one around it."""
    left, right = _left(a, b, found)
    for row in right:
        near = [
            one
            for one in left
            if one.path not in found and one.type == row.type and one.outputs == row.outputs
            and (one.path.startswith(f"{row.path}.") or row.path.startswith(f"{one.path}."))
        ]  # fmt: skip
        if near:
            found[max(near, key=lambda one: one.macs).path] = row


def _match_between(a: Sequence[Row], b: Sequence[Row], found: dict[str, Row]) -> None:
    partners = {row.path for row in found.values()}
    left, right = _gaps(a, set(found)), _gaps(b, partners)
    here = {path: row.path for path, row in found.items()}
    for last, rows in left.items():
        others = right.get(None if last is None else here[last], [])
        keys = [[(row.type, row.outputs) for row in side] for side in (rows, others)]
        for one, two, size in SequenceMatcher(None, *keys, autojunk=False).get_matching_blocks():
            found |= {rows[one + i].path: others[two + i] for i in range(size)}


def _gaps(rows: Sequence[Row], matched: set[str]) -> dict[str | None, list[Row]]:
    """Rows without a partner, by the last row before them that has one."""
    found: dict[str | None, list[Row]] = {}
    last: str | None = None
    for row in rows:
        if row.path in matched:
            last = row.path
        else:
            found.setdefault(last, []).append(row)
    return found


def _added(found: dict[str, Any]) -> list[Any]:
    return [found[name] for name in ADDED]


def comparison_table(
    comparison: Comparison,
    columns: Sequence[str] = ("macs", "params", "traffic_bytes"),
    *,
    width: int | None = None,
    glob: str | None = None,
) -> str:
    """The totals with their ratios, and the rows that changed, or those of them that `glob` matches.

    `width`: paths and types are shortened to fit it.
    """
    said = [_total(name, *values) for name, values in comparison.totals().items()]
    heads = [_end(name, 28) if width else name for name in comparison.names]
    parts = [aligned([("total", *heads, "ratio"), *said], 1)]
    shown = [pair for pair in comparison.changed if glob is None or pair.matches(glob)]
    if shown:
        head = ("module", "type", *(COLUMNS[name].title for name in columns))
        body = [(pair.path, pair.type, *(_change(name, *pair.figure(name)) for name in columns)) for pair in shown]
        parts.append(aligned(_narrow([head, *body], width), 2))
    same = len(comparison.pairs) - len(comparison.changed)
    parts.append(f"{_counted(comparison.changed)}; {same} of {len(comparison.pairs)} rows are the same.")
    return "\n\n".join(parts)


def _total(name: str, one: int, two: int, ratio: float | None) -> tuple[str, ...]:
    return TOTALS[name], f"{one:,}", f"{two:,}", "" if ratio is None else f"{ratio:.4g}"


def _change(name: str, one: Any, two: Any) -> str:
    if one == two:
        return cell(name, one)
    return f"{cell(name, one) or '-'} -> {cell(name, two) or '-'}"


def _counted(changed: Sequence[Pair]) -> str:
    kinds = [pair.status for pair in changed]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("changed", "gone", "new"))


def _narrow(lines: list[tuple[str, ...]], width: int | None) -> list[tuple[str, ...]]:
    if width is None:
        return lines
    rest = sum(max(len(line[at]) for line in lines) + 2 for at in range(2, len(lines[0])))
    room = max(width - rest - 2, 32)
    kind = min(max(len(line[1]) for line in lines), room * 2 // 5)
    return [(_end(line[0], room - kind), _end(line[1], kind), *line[2:]) for line in lines]


def _end(text: str, room: int) -> str:
    return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"
