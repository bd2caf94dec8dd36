"""What became of each layer: rank, bound, error and cost, or why it stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convfold.plan.table import table
from convfold.transform.decompose.frame import Rank

__all__ = ["Report", "Row"]


@dataclass(frozen=True)
class Row:
    """One layer.

    `error` is what was measured and `bound` what it was held to: the relative Frobenius error of the kernel, or with
    data the relative error of the layer's output over the data. A layer that stays has no rank, error and bound 0, and
    a `reason`. With data `fitted` says whether factors came from the "data" or the "weights" alone, whichever
    had the smaller error on the validation part; `validation` and `held_out` are the errors of both, fitted without.
    """

    layer: str
    method: str
    rank: Rank | None
    bound: float
    error: float
    macs_before: int
    macs_after: int
    type: str = ""
    form: str = ""
    reason: str = ""
    fitted: str = ""
    validation: dict[str, float] | None = None
    held_out: dict[str, float] | None = None

    @property
    def decomposed(self) -> bool:
        return self.rank is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rank = list(self.rank) if isinstance(self.rank, tuple) else self.rank
        return {**self.__dict__, "rank": rank}


@dataclass(frozen=True)
class Report:
    """One row per layer that was looked at, and what the model costs before and after.

    MACs are those of one forward pass on the example inputs; without any they are those of one position of each
    layer's output (`per_position`), and the totals are sums over the layers. `total_error` is the root of the sum of
    the squares of the rows' bounds.
    """

    rows: tuple[Row, ...]
    macs_before: int
    macs_after: int
    per_position: bool = False
    samples: tuple[int, int, int] | None = None

    @property
    def total_error(self) -> float:
        return float(sum(row.bound**2 for row in self.rows) ** 0.5)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "macs_before": self.macs_before,
            "macs_after": self.macs_after,
            "per_position": self.per_position,
            "total_error": self.total_error,
            "samples": None if self.samples is None else dict(zip(_PARTS, self.samples, strict=True)),
            "rows": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        done = [row for row in self.rows if row.decomposed]
        parts = [table(*self._done(done))] if done else ["Nothing is decomposed."]
        kept = [(row.layer or "(the model)", row.type, row.reason) for row in self.rows if not row.decomposed]
        if kept:
            parts.append("Left alone:\n" + table(("layer", "type", "reason"), kept, (0, 0, 76)))
        saved = 1 - self.macs_after / self.macs_before if self.macs_before else 0.0
        where = "for each position of an output, " if self.per_position else ""
        parts.append(f"MACs {where}{self.macs_before:,} -> {self.macs_after:,} ({-saved:+.1%})")
        if self.samples is not None:
            fit, validation, held = self.samples
            parts.append(
                f"Fitted to {fit} samples, chosen on {validation}, held out {held}; then fitted again to all of them."
            )
        return "\n\n".join(parts)

    def _done(self, rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = ["layer", "rank", "becomes", "bound", "error", "MACs"]
        cells = []
        for row in rows:
            rank = ", ".join(map(str, row.rank)) if isinstance(row.rank, tuple) else str(row.rank)
            cell = [row.layer or "(the model)", rank, row.form, f"{row.bound:.3g}", f"{row.error:.3g}"]
            cell.append(f"{row.macs_before:,} -> {row.macs_after:,}")
            if self.samples is not None:
                cell += [row.fitted, *(_shown(row.held_out, key) for key in ("data", "weights"))]
            cells.append(tuple(cell))
        if self.samples is not None:
            head += ["fitted to", "held out: data", "weights"]
        return tuple(head), cells


_PARTS = ("fit", "validation", "held_out")


def _shown(errors: dict[str, float] | None, key: str) -> str:
    return "-" if errors is None else f"{errors[key]:.3g}"
