"""Whether the calls of one module come out the same, told without weights."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch.utils._pytree import tree_map

from convfold.graph.captured import Ref
from convfold.graph.maps import Block, Given, Map
from convfold.graph.program import Concat, Elementwise, Linear, Node, ShiftGiven, ShiftJoin, Spatial
from convfold.plan.emission.change import Change, refs
from convfold.plan.emission.outcome import Outcome, Solver
from convfold.plan.emission.recipes import parts_of

__all__ = ["same_everywhere"]


def same_everywhere(change: Change, outcomes: list[Outcome], solver: Solver) -> frozenset[int]:
    """The modules, by identity, whose calls differ in outcome: they can only stay as they are."""
    found: dict[int, set[Hashable]] = {}
    repeated: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.kind == "untouched":
            for call in change.below(outcome.call.number):
                found.setdefault(id(solver.module(call)), set()).add("as it was")
        elif outcome.kind == "kept":
            found.setdefault(id(solver.module(outcome.call)), set()).add("as it was")
        else:
            repeated.setdefault(id(solver.module(outcome.call)), []).append(outcome)
        for unit in outcome.units:
            if unit.outcome is None and unit.value not in change.changed:
                for name in change.constants(frozenset({unit.value})):
                    path = name.rpartition(".")[0]
                    if not f"{outcome.call.path}.".startswith(f"{path}.") and path:
                        found.setdefault(id(solver.modules[path]), set()).add("as it was")
    signatures = _Signatures(change)
    for identity, group in repeated.items():
        held = found.setdefault(identity, set())
        # One call needs no comparison with itself.
        held |= {signatures.outcome(o) for o in group} if len(group) > 1 or held else {"changed"}
    return frozenset(identity for identity, kinds in found.items() if len(kinds) > 1)


class _Signatures:
    """Numbers for recipes: two of one number are the same function of the same tensors."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, int] = {}

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def recipe(self, root: Any) -> int:
        """The number of a map, a recipe or a bias; deep ones are followed without recursion."""
        stack = [root]
        while stack:
            item = stack[-1]
            missing = [part for part in parts_of(item) if id(part) not in self._known]
            if missing:
                stack += missing
                continue
            stack.pop()
            inner = tuple(self._known[id(part)] for part in parts_of(item))
            self._known[id(item)] = self._number((type(item).__name__, _plain(item), inner))
        return self._known[id(root)]

    def outcome(self, outcome: Outcome) -> Hashable:
        """What a call does, its values numbered in the order in which they appear."""
        change, seen = self.change, {}

        def local(value: int) -> int:
            label = change.label(value)
            return seen.setdefault(label, len(seen))

        def tree(item: Any) -> str:
            return repr(tree_map(lambda leaf: ("value", local(leaf.value)) if isinstance(leaf, Ref) else leaf, item))

        given = tuple(map(local, refs(outcome.call.args, outcome.call.kwargs)))
        lines: list[Hashable] = []
        if outcome.kind == "replaced":
            lines.append(self._node(change.after.nodes[outcome.value], local))
        for unit in outcome.units:
            if unit.outcome is not None:
                call = unit.outcome.call
                lines.append((call.path, unit.outcome.kind, tree((call.args, call.kwargs, call.output))))
            elif unit.value in change.changed:
                lines.append((self._node(change.after.nodes[unit.value], local), local(unit.value)))
            else:
                step = change.steps[unit.value]
                lines.append((str(step.target), tree((step.args, step.kwargs)), local(unit.value)))
        return (outcome.kind, given, tuple(lines), tree(outcome.call.output))

    def _node(self, node: Node, local: Any) -> Hashable:
        if isinstance(node, Linear):
            terms = tuple((self.recipe(term.map), local(term.source)) for term in node.terms)
            return ("sum", terms, None if node.shift is None else self.recipe(node.shift), node.axis)
        kind = type(node).__name__
        like = node.like if isinstance(node, (Spatial, Elementwise)) else None
        axis = node.axis if isinstance(node, Concat) else None
        return (kind, tuple(map(local, node.inputs)), like, axis)


def _plain(item: Any) -> Hashable:
    """What an item holds besides its parts."""
    if isinstance(item, Map):
        return (item.kind, item.rows, item.cols, item.axis, item.window, item.groups, item.factor, item.index)
    if isinstance(item, (Given, ShiftGiven)):
        return item.key
    if isinstance(item, Block):
        return (item.start, item.stop, item.diagonal)
    if isinstance(item, ShiftJoin):
        return tuple((part is None, width) for part, width in item.parts)
    return tuple(getattr(item, name) for name in ("widths", "start", "stop", "size") if hasattr(item, name))
