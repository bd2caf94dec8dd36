"""A plan as text: a table of regions, the refusals with their reasons, and the totals."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.cost import Totals
from convfold.errors import Refusal
from convfold.plan.regions import Region

__all__ = ["render", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns under a rule."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _brief(equation: str) -> str:
    return equation if len(equation) <= 60 else f"{equation[:57]}..."


def _joined(paths: tuple[str, ...]) -> str:
    return " + ".join(path or "(the model)" for path in paths)


def _macs(region: Region) -> str:
    if region.before is None or region.after is None:
        return "unknown"
    return f"{region.before.macs:,} -> {region.after.macs:,}"


def render(
    regions: tuple[Region, ...], refusals: tuple[Refusal, ...], before: Totals | None, after: Totals | None
) -> str:
    """The whole plan as text."""
    parts: list[str] = []
    if regions:
        rows = [(_joined(r.paths), " + ".join(r.types), _brief(r.equation), r.result, _macs(r)) for r in regions]
        parts.append(table(("module", "type", "equation", "becomes", "MACs"), rows))
    else:
        parts.append("Nothing folds.")
    if refusals:
        parts.append("Left alone:\n" + "\n".join(f"  {refusal}" for refusal in refusals))
    if before is not None and after is not None:
        rows = [
            (name, f"{a:,}", f"{b:,}")
            for name, a, b in zip(("MACs", "convolutions", "operators", "parameters"), before, after, strict=True)
        ]
        parts.append(table(("total", "before", "after"), rows))
    else:
        parts.append("Costs: unknown without example inputs.")
    return "\n\n".join(parts)
