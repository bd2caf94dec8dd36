"""Code whose results nothing needs: a forward that stays runs it all the same, on the values that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from convfold.graph.captured import Call
from convfold.plan.emission.change import Change, refs

__all__ = ["Idle"]


class Idle:
    """What idle code reads, by the call in whose own forward it stands."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._reads: dict[int, set[int]] = {number: set() for number in change.calls}
        for value, step in change.captured.steps.items():
            if value not in change.was and value not in change.live:
                self._reads[change.captured.home[value]].update(refs(step.args, step.kwargs))
        for call in change.calls.values():
            if call.parent is not None and not change.inside[call.number] and not change.placed[call.number]:
                self._reads[call.parent].update(refs(call.args, call.kwargs))

    def own(self, call: Call) -> set[int]:
        """What idle code in the forward of a call itself reads."""
        return self._reads[call.number]

    def whole(self, call: Call) -> set[int]:
        """What idle code anywhere in a call reads of what was computed before it."""
        return self.outer(call, {value for below in self.change.below(call.number) for value in self.own(below)})

    def outer(self, call: Call, values: Iterable[int]) -> set[int]:
        """Those of `values` that the original computed before a call, or was given."""
        home, end = self.change.captured.home, self.change.end[call.number]
        return {v for v in values if v not in home or not call.number <= home[v] < end}

    def lost(self, values: Iterable[int]) -> Iterator[int]:
        """Those of `values` that are not computed any more, or where other values flow now."""
        return (v for v in values if self.change.label(v) != v)
