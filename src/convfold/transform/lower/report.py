"""What became of each layer, what it cost before and after, and how exact it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convfold.errors import Refusal
from convfold.plan.table import table
from convfold.verify import Certificate

__all__ = ["LoweredLayer", "LoweringReport", "NotLowered"]


@dataclass(frozen=True)
class NotLowered(Refusal):
    """Something that breaks the target and stays: what, where, why, and the way out."""

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.operator} is not lowered: {self.reason}.{f' {self.hint}' if self.hint else ''}"


@dataclass(frozen=True)
class LoweredLayer:
    """One layer: the rules that rewrote it, its numbers `before`, the convolutions `after`, and the proof.

    Multiply-accumulates are those of all its calls on the example inputs. `error` is the largest difference in float64,
    over the sum of the absolute terms, and `bound` what it was held to. `note` says what a reader should know.
    """

    layer: str
    rule: str
    before: str
    after: str
    macs_before: int
    macs_after: int
    error: float
    bound: float
    note: str = ""


@dataclass(frozen=True)
class LoweringReport:
    """A lowering: one row for each layer that was rewritten, and what was not.

    `refusals` break the target and stay; without any, `reached` is true. `notes` are what the target does not speak of
    and a reader may ask after. `macs_before` and `macs_after` are the whole model's. `certificate` compares the whole
    models as `convfold.verify` does.
    """

    target: str
    rows: tuple[LoweredLayer, ...]
    refusals: tuple[NotLowered, ...]
    notes: tuple[str, ...]
    macs_before: int
    macs_after: int
    certificate: Certificate

    @property
    def reached(self) -> bool:
        """Whether nothing that the model executes breaks the target any more."""
        return not self.refusals

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "target": self.target,
            "reached": self.reached,
            "rows": [asdict(row) for row in self.rows],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "notes": list(self.notes),
            "macs_before": self.macs_before,
            "macs_after": self.macs_after,
            "certificate": self.certificate.to_dict(),
        }

    def __str__(self) -> str:
        parts = []
        if self.rows:
            head = ("layer", "rule", "before", "after", "MACs", "error / bound", "note")
            parts.append(table(head, [_cells(row) for row in self.rows], (30, 12, 24, 32, 15, 18, 28)))
        elif not self.refusals:
            parts.append(f"Nothing to lower: the model meets {self.target} as it is.")
        if self.refusals:
            parts.append("Not lowered:\n" + "\n".join(f"  {refusal}" for refusal in self.refusals))
        parts += ["\n".join(self.notes)] if self.notes else []
        verdict = "reached" if self.reached else "NOT reached"
        parts.append(f"{self.target}: {verdict}; MACs {self.macs_before:,} -> {self.macs_after:,}")
        parts.append(str(self.certificate))
        return "\n\n".join(parts)


def _cells(row: LoweredLayer) -> tuple[str, ...]:
    macs = f"{row.macs_before:,}" + (f" -> {row.macs_after:,}" if row.macs_after != row.macs_before else "")
    return (
        row.layer or "(the model)",
        row.rule,
        row.before,
        row.after,
        macs,
        f"{row.error:.1e} / {row.bound:.1e}",
        row.note,
    )
