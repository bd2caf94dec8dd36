"""The last gate: what a forward executes when it is written anew, counted where it does not cost what was planned.

A write in place is one operator; written as values it is a copy of what was written to as well. A search that weighs
values cannot see that, so a forward with such writes may cost more than the fold has saved in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import nn

from convfold.cost import CostReport, Totals
from convfold.plan.emission.rewritten import Rewritten
from convfold.plan.search.price import Price

__all__ = ["Gated", "cheaper_only", "is_below"]


class Gated(Protocol):
    """A decision that foretells what it saves, and can be taken back for what lies below some modules."""

    @property
    def change(self) -> Price: ...
    def shadow(self) -> nn.Module: ...
    def without(self, own: frozenset[str], whole: frozenset[str]) -> Any: ...


Decided = TypeVar("Decided", bound=Gated)
Count = Callable[[nn.Module], CostReport]


def cheaper_only(decision: Decided, before: CostReport, count: Count) -> tuple[Decided, CostReport]:
    """The decision without what makes a rewritten forward dearer than it was, and the cost after it.

    Dearer is one that executes more MACs, convolutions or operators. Only where the count differs from what the
    decision foretells there is anything to look for.
    """
    # First a forward's own operators are left alone, so that modules below still fold; if that is not enough, they too.
    own: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    while True:
        change, after = decision.change, count(decision.shadow())
        foretold = (before.macs + change.macs, before.convolutions + change.convolutions)
        if (after.macs, after.convolutions, after.operators) == (*foretold, before.operators + change.operators):
            return decision, after
        worse = _dearer(decision.shadow(), before, after) - whole
        if not worse:
            return decision, after
        whole |= worse & own
        own |= worse
        decision = decision.without(own, whole)


def _dearer(shadow: nn.Module, before: CostReport, after: CostReport) -> frozenset[str]:
    """The innermost modules with a forward of the fold's that executes more than the module did."""
    found = {
        path
        for path, module in shadow.named_modules()
        if isinstance(module, Rewritten)
        and path in before.names
        and any(b > a for a, b in zip(_three(before.under(path)), _three(after.under(path)), strict=True))
    }
    return frozenset(path for path in found if not any(other != path and is_below(other, path) for other in found))


def _three(totals: Totals) -> tuple[int, int, int]:
    return totals.macs, totals.convolutions, totals.operators


def is_below(inner: str, outer: str) -> bool:
    """Whether the module at `inner` lies within the one at `outer`."""
    return outer == "" or inner.startswith(f"{outer}.")
