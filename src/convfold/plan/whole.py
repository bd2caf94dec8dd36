"""The plan of a whole captured graph: what the search may not touch, and the regions that it found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import nn
from torch.utils._pytree import tree_leaves

from convfold.algebra import defines_op
from convfold.errors import Refusal
from convfold.graph.captured import Captured, Ref
from convfold.graph.program import Linear, Program, is_identity
from convfold.plan.guards import closed_modules, stubborn_norms, why_not
from convfold.plan.search.price import FREE, Objective, Price, Pricer, price
from convfold.plan.search.search import Accepted, Rewritten, search

__all__ = ["Part", "Programs", "Replanned", "Rewriting", "Whole", "modules_of", "parts_of", "plan_whole"]


@dataclass(frozen=True)
class Part:
    """Values that change together: what they were, what they are now, by which laws, and what that saves."""

    number: int
    changed: frozenset[int]
    dropped: frozenset[int]
    laws: tuple[str, ...]
    change: Price

    @property
    def values(self) -> frozenset[int]:
        return self.changed | self.dropped


class Programs(Protocol):
    """A program, and the one that takes its place; values keep their numbers."""

    @property
    def before(self) -> Program: ...
    @property
    def after(self) -> Program: ...


class Rewriting(Programs, Protocol):
    """A program, the one that shall take its place, and its parts, whichever frontend it came from.

    `refusals` say what was kept as it is and why.
    """

    found: Rewritten
    parts: tuple[Part, ...]
    kept: frozenset[int]
    refusals: list[Refusal]
    pricer: Pricer

    def module_of(self, value: int) -> str: ...


class Replanned:
    """A captured program, and the one that was found to take its place."""

    captured: Any
    found: Rewritten

    @property
    def before(self) -> Program:
        program: Program = self.captured.program
        return program

    @property
    def after(self) -> Program:
        return self.found.program


@dataclass
class Whole(Replanned):
    """A captured model, the program that shall take its place, and its parts.

    `refusals` say what was kept as it is and why; `blocking` those of them for which a fold raises.
    """

    captured: Captured
    found: Rewritten
    parts: tuple[Part, ...]
    kept: frozenset[int]
    refusals: list[Refusal] = field(default_factory=list)
    blocking: list[Refusal] = field(default_factory=list)
    pricer: Pricer = price

    @property
    def change(self) -> Price:
        """What all parts save together."""
        total = FREE
        for part in self.parts:
            total = total.plus(part.change)
        return total

    def module_of(self, value: int) -> str:
        """The module that computes a value."""
        home = self.captured.home.get(value)
        known = self.after.values[value].place.module
        return known or ("" if home is None else self.captured.calls[home].path)


def plan_whole(
    captured: Captured, objective: Objective, pricer: Pricer, without: Iterable[frozenset[int]] = ()
) -> Whole:
    """Search the captured program; parts that may not be folded are kept as they are and listed.

    Hooks, weights that something else reads, and ties that still train keep a module as it is. A part with a
    batch normalisation in training mode, or with values that are not finite, blocks: a fold raises for it. The
    values of `without` stay as they are: parts that were rolled back.
    """
    closed = closed_modules(captured)
    given, inner = _values_of(captured, set(closed))
    kept = inner | _alive_in_training(captured)
    # A forward that writes to what the model holds stays as it is: written anew it would not.
    writers = captured.writes.keys() | _calls_that_write_for_callers(captured)
    kept |= frozenset(value for value, number in captured.home.items() if number in writers)
    kept |= frozenset(v for vs in without for v in vs if v < len(captured.program.values))
    refusals = [closed[path] for path in closed if _matters(captured, path, inner)]
    refusals += [why for why in _writers(captured) if why.place not in closed and _matters(captured, why.place, kept)]
    blocking = stubborn_norms(captured)
    refusals += blocking
    # What trains is computed anew at each step: it is no constant.
    trained = {call.number for call in captured.calls if captured.model.get_submodule(call.path).training}
    baked = {value: n for value, n in captured.program.baked.items() if captured.home[value] not in trained}
    program = replace(captured.program, baked=baked)
    while True:
        found = search(program, kept, objective, pricer=pricer, alive=given)
        parts = parts_of(found, captured.program)
        stopped = [why for part in parts if (why := why_not(captured, part.values)) is not None]
        if not stopped:
            break
        for value, refusal, blocks in stopped:
            kept |= {value}
            refusals.append(refusal)
            blocking += [refusal] * blocks
    return Whole(captured, found, parts, kept, refusals, blocking)


def _values_of(captured: Captured, paths: set[str]) -> tuple[frozenset[int], frozenset[int]]:
    """The values that go into modules at these paths, and those that are computed in them or come out."""
    given: set[int] = set()
    values: set[int] = set()
    numbers = {call.number for call in captured.calls if call.path in paths}
    for call in captured.calls:
        if call.parent in numbers:
            numbers.add(call.number)
        if call.path in paths:
            given |= {leaf.value for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Ref)}
            values |= {leaf.value for leaf in tree_leaves(call.output) if isinstance(leaf, Ref)}
    values -= given - set(captured.home)
    return frozenset(given), frozenset(values | {value for value, number in captured.home.items() if number in numbers})


def _writers(captured: Captured) -> list[Refusal]:
    """The modules whose forwards write to what the model holds."""
    found = {}
    for number, name in captured.writes.items():
        path = captured.calls[number].path
        kind = type(captured.model.get_submodule(path)).__name__
        found[path] = Refusal(kind, f"it writes to '{name}' in its forward, which therefore stays as it is", path)
    return list(found.values())


def _calls_that_write_for_callers(captured: Captured) -> set[int]:
    """The calls whose forward adds to its own argument in place: its caller may read that argument again."""
    calls = {call.number: call for call in captured.calls}
    found = set()
    for value, step in captured.steps.items():
        call = calls[captured.home[value]]
        if step.writes and call.parent is not None and isinstance(captured.program.nodes.get(value), Linear):
            given = {leaf.value for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Ref)}
            if not given.isdisjoint(step.writes):
                found.add(call.number)
    return found


def _alive_in_training(captured: Captured) -> frozenset[int]:
    """What passes its input in eval mode only (a dropout), by a module that is in training mode."""
    calls = {call.number: call.path for call in captured.calls}
    found = set()
    for value in captured.steps:
        module = captured.model.get_submodule(calls[captured.home[value]])
        operator, node = captured.program.values[value].place.operator, captured.program.nodes.get(value)
        # An alias is a module's own input passed on.
        passes = "dropout" in operator or (operator == "alias" and is_identity(node))
        if module.training and passes and not isinstance(module, nn.Identity):
            found.add(value)
    return frozenset(found)


def _matters(captured: Captured, path: str, values: frozenset[int]) -> bool:
    """Whether a closed module computes something linear, so that leaving it alone is worth a word."""
    own = {call.number for call in captured.calls if call.path == path}
    return any(
        number in own and value in values and isinstance(captured.program.nodes.get(value), Linear)
        for value, number in captured.home.items()
    )


def parts_of(found: Rewritten, before: Program) -> tuple[Part, ...]:
    """The accepted moves, those that touch a value in common put together."""
    live = frozenset(found.program.live())
    leader: dict[int, int] = {}

    def lead(number: int) -> int:
        while leader.setdefault(number, number) != number:
            leader[number] = number = leader[leader[number]]
        return number

    for step in found.accepted:
        for number in (*step.changed, *step.dropped):
            leader[lead(number)] = lead(step.number)
    groups: dict[int, list[Accepted]] = {}
    for step in found.accepted:
        groups.setdefault(lead(step.number), []).append(step)
    parts: list[Part] = []
    for steps in sorted(groups.values(), key=lambda steps: min(step.number for step in steps)):
        touched = {number for step in steps for number in (*step.changed, *step.dropped)}
        changed = frozenset(n for n in touched if n in live)
        dropped = frozenset(n for n in touched if n not in live and n < len(before.values))
        change = FREE
        for step in steps:
            change = change.plus(step.change)
        parts.append(Part(len(parts), changed, dropped, tuple(dict.fromkeys(s.law for s in steps)), change))
    return tuple(parts)


def modules_of(captured: Captured, values: Iterable[int]) -> list[str]:
    """The innermost modules that compute these values, in order of execution; of a block, the block."""
    paths = {call.number: call.path for call in captured.calls}
    found = dict.fromkeys(paths[captured.home[v]] for v in sorted(values) if v in captured.home)
    return list(dict.fromkeys(_block(captured.model, path) for path in found))


def _block(model: nn.Module, path: str) -> str:
    """The outermost module around `path` that gives its own equation; `path` itself where there is none."""
    module, outer = model, ""
    for name in path.split(".") if path else ():
        if defines_op(module):
            return outer
        module, outer = module.get_submodule(name), f"{outer}.{name}" if outer else name
    return path
