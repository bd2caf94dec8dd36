"""What becomes of each call of a module: left as it is, replaced, rewritten, or written out in its caller."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from convfold.graph.captured import Call, Ref
from convfold.graph.program import Linear
from convfold.plan.emission.aliasing import unsafe_writes
from convfold.plan.emission.change import Change, refs
from convfold.plan.emission.idle import Idle
from convfold.plan.emission.passing import looks_at_no_size
from convfold.plan.emission.reach import Reach

__all__ = ["Outcome", "Solver", "Unit"]

Kind = Literal["untouched", "kept", "identity", "replaced", "rewritten"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What becomes of a call.

    * untouched: the module computes what it did;
    * kept: its forward stays, modules below it change (`children`);
    * identity: it passes its input;
    * replaced: by the module of `value`, one linear map of its one input, padding of any mode included;
    * rewritten: its forward becomes `units`, in this order.

    `reads` is what code in it whose results nothing needs reads of what was computed before the call.
    """

    call: Call
    kind: Kind
    children: tuple[Outcome, ...] = ()
    units: tuple[Unit, ...] = ()
    value: int = -1
    reads: frozenset[int] = frozenset()

    def walk(self) -> Iterator[Outcome]:
        """This outcome and those of the calls below it that are still calls."""
        stack = [self]
        while stack:
            current = stack.pop()
            yield current
            below = [unit.outcome for unit in current.units if unit.outcome is not None]
            stack += reversed((*current.children, *below))


@dataclass(frozen=True, eq=False)
class Unit:
    """One statement: a value by its operator or definition, or the call of a module below."""

    needs: tuple[int, ...]
    gives: tuple[int, ...]
    value: int = -1
    outcome: Outcome | None = None


class Solver:
    """Decides calls from the leaves up.

    The modules in `fixed` (by identity) can only stay or be written out in their callers: their calls come out
    differently, or their class cannot be changed. The calls in `inlined` are written out.
    """

    def __init__(self, change: Change, fixed: frozenset[int], inlined: frozenset[int]) -> None:
        self.change, self.fixed, self.inlined = change, fixed, set(inlined)
        self.modules = dict(change.captured.model.named_modules(remove_duplicate=False))
        self._unsafe = unsafe_writes(change)
        self._reach, self._idle = Reach(change), Idle(change)
        self._memo: dict[int, Outcome | None] = {}

    def module(self, call: Call) -> nn.Module:
        return self.modules[call.path]

    def solve(self, number: int) -> Outcome | None:
        """What becomes of a call; None: written out in its caller."""
        for below in range(self.change.end[number] - 1, number - 1, -1):
            if below in self.change.calls and below not in self._memo:
                self._memo[below] = self._decide(self.change.calls[below])
        return self._memo[number]

    def _decide(self, call: Call) -> Outcome | None:
        change, number = self.change, call.number
        if call.parent is not None and number in self.inlined:
            return None
        if not change.inside[number] and not change.placed[number]:
            return self._untouched(call) if self._fits(call, call.args, call.kwargs) else None
        ins = {change.label(v) for v in refs(call.args, call.kwargs)}
        outs = {change.label(v) for v in refs(call.output)}
        placed = change.placed[number]
        if any(change.escapes(v, number) and v not in outs for v in placed):
            return None
        if self._is_untouched(number) and self._fits(call, call.args, call.kwargs):
            whole = self._untouched(call)
            # Idle code that reads what is gone is left out of a forward written anew.
            if None in ins or not any(v in change.was for v in self._idle.lost(whole.reads)):
                return None if None in ins else whole
        if call.parent is not None and any(v in self._unsafe and change.home[v] == number for v in placed):
            return None
        free = id(self.module(call)) not in self.fixed
        found = None
        # What the run never reached (an auxiliary head) is not lost with what it did reach.
        if free and self._reach.all_used_up(call.path, self.module(call)):
            found = self._identity(call) or self._replaced(call)
        if found is None or type(self.module(call)) is nn.Sequential:
            found = self._kept(call) or found
        if found is None and free and placed:
            found = self._rewritten(call, ins)
        return found

    def _untouched(self, call: Call) -> Outcome:
        return Outcome(call, "untouched", reads=frozenset(self._idle.whole(call)))

    def _is_untouched(self, number: int) -> bool:
        change = self.change
        return change.inside[number] == change.placed[number] and not any(
            v in change.changed or v in self._unsafe for v in change.placed[number]
        )

    def _plain(self, call: Call) -> tuple[int | None, int | None]:
        """The labels of the one argument and the one result of a call, None where it has others."""
        if len(call.args) != 1 or call.kwargs or not isinstance(call.args[0], Ref) or not isinstance(call.output, Ref):
            return None, None
        return self.change.label(call.args[0].value), self.change.label(call.output.value)

    def _identity(self, call: Call) -> Outcome | None:
        """A call whose result is its argument, if behind modules that are identities themselves."""
        given, result = self._plain(call)
        placed, passed = self.change.placed[call.number], set()
        while given is not None and result is not None and result != given:
            if result not in placed or result in self.change.changed or not self._is_plain_identity(result):
                return None
            passed.add(result)
            (result,) = self.change.after.nodes[result].inputs
        return Outcome(call, "identity") if given is not None and result is not None and placed == passed else None

    def _is_plain_identity(self, value: int) -> bool:
        return type(self.module(self.change.calls[self.change.home[value]])) is nn.Identity

    def _replaced(self, call: Call) -> Outcome | None:
        change, (given, result) = self.change, self._plain(call)
        if given is None or result not in change.changed or result is None:
            return None
        node, padding = change.after.nodes[result], change.padding(result)
        if not isinstance(node, Linear) or len(node.terms) != 1 or not node.terms[0].map.dense:
            return None
        placed, source = {result}, node.terms[0].source
        if padding is not None and padding.value in change.placed[call.number]:
            placed, source = {result, padding.value}, padding.source
        fits = change.placed[call.number] == placed and source == given
        return Outcome(call, "replaced", value=result) if fits else None

    def _kept(self, call: Call) -> Outcome | None:
        change, number = self.change, call.number
        own = {v for v in change.inside[number] if change.captured.home[v] == number}
        placed = {v for v in change.placed[number] if change.home[v] == number}
        if own != placed or any(v in change.changed or v in self._unsafe for v in own):
            return None
        children = []
        for below in change.children[number]:
            found, child = self._memo[below], change.calls[below]
            if found is None:
                return None
            passed = {change.label(v) for v in refs(child.args, child.kwargs)}
            for value in refs(child.output):
                label = change.label(value)
                if value in change.was and (label is None or (label not in passed and not change.within(label, below))):
                    return None
            children.append(found)
        seen = [(call.args, call.kwargs), *(change.calls[below].output for below in change.children[number])]
        if not self._fits(call, *seen):
            return None
        reads = self._idle.own(call).union(*(child.reads for child in children))
        outer = self._idle.outer(call, reads)
        if any(v in change.was or (v not in outer and not self._runs(v, number)) for v in self._idle.lost(reads)):
            return None
        return Outcome(call, "kept", tuple(children), reads=frozenset(outer))

    def _fits(self, call: Call, *seen: Any) -> bool:
        """Whether the forward of a call may run on what flows where the values in `seen` did.

        It may read their sizes, which no value shows, unless it is one that is known to look at none.
        """
        return all(map(self.change.same_size, refs(*seen))) or looks_at_no_size(self.module(call))

    def _runs(self, value: int, number: int) -> bool:
        """Whether idle code in a call that is kept still computes a value."""
        current: int | None = self.change.captured.home[value]
        while current is not None and current != number:
            found = self._memo[current]
            if found is None or found.kind not in ("untouched", "kept"):
                return False
            current = self.change.calls[current].parent
        return True

    def _rewritten(self, call: Call, ins: set[int | None]) -> Outcome | None:
        if isinstance(self.module(call), torch.jit.ScriptModule):
            return None
        while True:
            units = list(self._units(call.number))
            given = {value for unit in units for value in unit.gives}
            if any(need not in given and need not in ins for unit in units for need in unit.needs):
                return None
            for value in refs(call.output):
                label = self.change.label(value)
                if label is not None and label not in given and label not in ins:
                    return None
            ordered, stuck = self._ordered(units)
            # Idle code is left out, and what it computed is not there.
            stuck += [u for u in ordered if u.outcome is not None and any(self._idle.lost(u.outcome.reads))]
            if not stuck:
                return Outcome(call, "rewritten", units=tuple(ordered))
            # Calls whose results and arguments wait for each other are written out.
            self.inlined |= {unit.outcome.call.number for unit in stuck if unit.outcome is not None}
            for unit in stuck:
                if unit.outcome is not None:
                    self._memo[unit.outcome.call.number] = None

    def _units(self, number: int) -> Iterator[Unit]:
        change = self.change
        for value in change.placed[number]:
            if change.home[value] == number:
                if value in change.changed:
                    needs = tuple(change.after.nodes[value].inputs)
                else:
                    step = change.steps[value]
                    needs = tuple(refs(step.args, step.kwargs))
                yield Unit(needs, (value,), value)
        for below in change.children[number]:
            if not change.placed[below]:
                continue
            found = self._memo[below]
            if found is None:
                yield from self._units(below)
                continue
            labels = [change.label(v) for v in refs(found.call.args, found.call.kwargs)]
            results = [change.label(v) for v in refs(found.call.output)]
            gives = tuple(dict.fromkeys(v for v in results if v is not None and change.within(v, below)))
            yield Unit(tuple(v for v in labels if v is not None), gives, outcome=found)

    def _time(self, unit: Unit) -> tuple[float, int]:
        if unit.outcome is None:
            return self.change.time[unit.value]
        return min(self.change.time[v] for v in self.change.placed[unit.outcome.call.number])

    def _ordered(self, units: list[Unit]) -> tuple[list[Unit], list[Unit]]:
        """The units as early as the original order has them, and those that wait for each other."""
        maker = {value: index for index, unit in enumerate(units) for value in unit.gives}
        waits = [{maker[n] for n in unit.needs if n in maker} - {i} for i, unit in enumerate(units)]
        readers: dict[int, list[int]] = {}
        for index, needed in enumerate(waits):
            for other in needed:
                readers.setdefault(other, []).append(index)
        ready = [(self._time(unit), i) for i, unit in enumerate(units) if not waits[i]]
        heapq.heapify(ready)
        ordered = []
        while ready:
            _, index = heapq.heappop(ready)
            ordered.append(units[index])
            for reader in readers.get(index, ()):
                waits[reader].discard(index)
                if not waits[reader]:
                    heapq.heappush(ready, (self._time(units[reader]), reader))
        done = set(map(id, ordered))
        return ordered, [unit for unit in units if id(unit) not in done]
