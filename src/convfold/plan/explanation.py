"""An explanation: every operator beside a convolution, every region, every refusal, and the graph before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from convfold.cost import Totals
from convfold.errors import Refusal
from convfold.plan.regions import Region
from convfold.plan.search.move import LAWS
from convfold.plan.table import table
from convfold.verify import Certificate

__all__ = ["Explanation", "explanation"]


_MOST = (32, 16, 22, 34, 28)  # characters of the columns


class Planned(Protocol):
    """What of a plan is explained."""

    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    objective: str
    certificates: dict[tuple[str, ...], Certificate]

    @property
    def limits(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Explanation:
    """Why a plan is what it is. Print it, or take it as plain values."""

    fields: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: model, inputs, objective, before, after, graphs, regions, operators, refusals, limits."""
        return dict(self.fields)

    def __str__(self) -> str:
        rows = [
            (
                row["module"] or "(the model)",
                row["operator"],
                row["line"].rpartition("/")[2],
                row["outcome"],
                row["reason"],
            )
            for row in self.fields["operators"]
        ]
        head = ("module", "operator", "line", "outcome", "why")
        return table(head, rows, _MOST) if rows else "No operator stands beside a convolution."


def _outcome(region: Region, laws: Sequence[str]) -> str:
    if LAWS["before"] in laws or LAWS["behind"] in laws:
        return "reorder"
    if LAWS["sink"] in laws:
        return "sink"
    return "partly" if region.after is not None and region.after.convolutions > 1 else "collapse"


def explanation(
    plan: Planned, drawn: Mapping[str, Any], model: str, inputs: str, costs: Mapping[str, Totals | None]
) -> Explanation:
    """Put together what a plan of the `model` of that name decided (`drawn`: graphs, operators and the laws of each
    region) and what it costs."""
    regions = []
    for region, (number, laws) in zip(plan.regions, drawn["laws"], strict=True):
        certificate = plan.certificates.get(region.paths)
        fields = region.to_dict()
        regions.append(
            {
                "id": number,
                "outcome": _outcome(region, laws),
                "result": region.result,
                "laws": list(laws),
                "before": fields["before"],
                "after": fields["after"],
                "modules": list(region.paths),
                "error": None if certificate is None else certificate.error,
                "bound": None if certificate is None else certificate.bound,
            }
        )
    return Explanation(
        {
            "model": model,
            "inputs": inputs,
            "objective": plan.objective,
            **{which: None if found is None else found._asdict() for which, found in costs.items()},
            "graphs": drawn["graphs"],
            "regions": regions,
            "operators": drawn["operators"],
            "refusals": [refusal.to_dict() for refusal in plan.refusals],
            "limits": list(plan.limits),
        }
    )
