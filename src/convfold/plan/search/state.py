"""The program while it is planned: definitions, readers, prices, and what a change of some would save."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from math import prod

from convfold.graph.maps import Given
from convfold.graph.program import Concat, Elementwise, Linear, Node, Program, Spatial, Value
from convfold.plan.search.price import FREE, Price, Pricer, price

__all__ = ["Defined", "Draft", "Foresight", "Outcome", "State"]

# A definition of a value: its number, what it is, and whether it is the frontend's own.
Defined = tuple[int, Node, bool]
# The difference that new definitions make in place of old ones, where it is known without measuring to be a loss.
Foresight = Callable[[Program, Sequence[Defined], Sequence[Defined]], Price | None]


@dataclass
class Draft:
    """New definitions that are tried together; `fresh` values are numbered from the end of the program.

    `found` are values that were there already and are read in place of fresh ones.
    """

    changes: dict[int, Node]
    fresh: list[Value]
    found: set[int]

    @classmethod
    def empty(cls) -> Draft:
        return cls({}, [], set())


@dataclass(frozen=True)
class Outcome:
    """What a draft would save (minus: cost), and the values that nothing would read any more."""

    change: Price
    dead: frozenset[int]


class State:
    """A program being planned. Values that are `kept` are neither redefined nor dropped, `alive` ones not dropped."""

    def __init__(
        self,
        program: Program,
        kept: frozenset[int] = frozenset(),
        pricer: Pricer = price,
        alive: frozenset[int] = frozenset(),
    ) -> None:
        # With all that is computed on the way: what stays alive may be read by nothing, and still has sources.
        live = set(program.live((*kept, *alive)))
        self.pricer = pricer
        # Where a price is measured, what is known beforehand to be dearer need not be.
        self.foreseen: Foresight | None = getattr(pricer, "foreseen", None)
        self.values = list(program.values)
        self._count = len(program.values)
        self.nodes: dict[int, Node] = {n: node for n, node in program.nodes.items() if n in live}
        self.original = dict(self.nodes)
        self.kept = kept
        self.outputs = frozenset(program.outputs) | kept | alive
        self.program = replace(program, values=self.values)
        self.readers: dict[int, set[int]] = {n: set() for n in range(len(self.values))}
        self.prices: dict[int, Price] = {}
        self._known: dict[Hashable, int] = {}
        for number, node in self.nodes.items():
            for source in node.inputs:
                self.readers[source].add(number)
            self.prices[number] = self.pricer(self.program, number, node, True)
            self._note(number, node)

    def total(self) -> Price:
        """The price of everything that is executed."""
        total = FREE
        for found in self.prices.values():
            total = total.plus(found)
        return total

    def is_there(self, number: int) -> bool:
        """Whether a value is still computed, or is an input."""
        return number in self.nodes or number in self.program.inputs

    def node(self, number: int, draft: Draft | None = None) -> Node | None:
        """The definition of a value, in `draft` if it stands there."""
        if draft is not None and number in draft.changes:
            return draft.changes[number]
        return self.nodes.get(number)

    def value(self, number: int, draft: Draft) -> Value:
        return draft.fresh[number - len(self.values)] if number >= len(self.values) else self.values[number]

    def size(self, number: int) -> int:
        """Elements of a value."""
        return prod(self.values[number].shape)

    def find_or_add(self, node: Node, value: Value, draft: Draft) -> int:
        """The number of the value that is defined so already, or of a fresh one in `draft`."""
        key = _key(node)
        known = self._known.get(key)
        if known is not None and known in self.nodes and _key(self.nodes[known]) == key:
            draft.found.add(known)
            return known
        for number, other in draft.changes.items():
            if number >= len(self.values) and _key(other) == key:
                return number
        number = len(self.values) + len(draft.fresh)
        draft.fresh.append(value)
        draft.changes[number] = node
        return number

    def is_circular(self, draft: Draft) -> bool:
        """Whether a value that was found, and is now read, is computed from one that the draft redefines."""
        redefined = {number for number in draft.changes if number in self.nodes}
        first, count = min(redefined, default=0), self._count
        stack, seen = list(draft.found), set()
        while stack:
            number = stack.pop()
            if number in redefined:
                return True
            # Numbers of the original rise in order of execution.
            if number in seen or (number < first and number < count):
                continue
            seen.add(number)
            node = self.node(number, draft)
            stack += node.inputs if node is not None else ()
        return False

    def weigh(self, draft: Draft) -> Outcome:
        """The difference that `draft` makes, dead values counted. Nothing is changed."""
        self.values += draft.fresh
        try:
            lost: dict[int, set[int]] = {}
            gained: dict[int, set[int]] = {}
            for number, node in draft.changes.items():
                old = self.nodes.get(number)
                for source in old.inputs if old is not None else ():
                    lost.setdefault(source, set()).add(number)
                for source in node.inputs:
                    gained.setdefault(source, set()).add(number)
            dead = frozenset(self._dead(draft, lost, gained))
            new = [
                (number, node, node is self.original.get(number))
                for number, node in draft.changes.items()
                if number not in dead
            ]
            gone = [number for number in dict.fromkeys((*draft.changes, *dead)) if number in self.nodes]
            return Outcome(self._foreseen(new, gone) or self._change(new, gone), dead)
        finally:
            del self.values[len(self.values) - len(draft.fresh) :]

    def _change(self, new: list[Defined], gone: list[int]) -> Price:
        change = FREE
        for defined in new:
            change = change.plus(self.pricer(self.program, *defined))
        for number in gone:
            change = change.minus(self.prices[number])
        return change

    def _foreseen(self, new: list[Defined], gone: list[int]) -> Price | None:
        """The difference where the prices tell without measuring that it is none to be made."""
        if self.foreseen is None:
            return None
        old = [(number, self.nodes[number], self.nodes[number] is self.original.get(number)) for number in gone]
        return self.foreseen(self.program, new, old)

    def _dead(self, draft: Draft, lost: dict[int, set[int]], gained: dict[int, set[int]]) -> set[int]:
        dead: set[int] = set()
        stack = [*lost, *(n for n in draft.changes if n not in self.nodes)]
        while stack:
            number = stack.pop()
            if number in dead or number in self.outputs or self.node(number, draft) is None:
                continue
            readers = self.readers.get(number, set()) - lost.get(number, set()) | gained.get(number, set())
            if readers - dead:
                continue
            dead.add(number)
            node = self.node(number, draft)
            assert node is not None
            stack += node.inputs
        return dead

    def accept(self, draft: Draft, outcome: Outcome) -> None:
        """Make the draft the program."""
        self.values += draft.fresh
        for number in range(len(self.values) - len(draft.fresh), len(self.values)):
            self.readers.setdefault(number, set())
        for number, node in draft.changes.items():
            self._unread(number)
            self.nodes[number] = node
            for source in node.inputs:
                self.readers[source].add(number)
            self.prices[number] = self.pricer(self.program, number, node, node is self.original.get(number))
            self._note(number, node)
        for number in outcome.dead:
            self._unread(number)
            self.nodes.pop(number, None)
            self.prices.pop(number, None)

    def _unread(self, number: int) -> None:
        old = self.nodes.get(number)
        for source in old.inputs if old is not None else ():
            self.readers[source].discard(number)

    def _note(self, number: int, node: Node) -> None:
        key = _key(node)
        if key is not None:
            self._known.setdefault(key, number)

    def finished(self) -> Program:
        """The program as planned."""
        return replace(self.program, values=list(self.values), nodes=dict(self.nodes))


def _key(node: Node) -> Hashable:
    """What makes two definitions the same value; None for those that are never looked up."""
    if isinstance(node, Spatial):
        return ("spatial", node.like, node.source)
    if isinstance(node, Linear) and len(node.terms) == 1 and node.terms[0].map.kind == "pool" and node.shift is None:
        m = node.terms[0].map
        divisor = m.recipe.key if isinstance(m.recipe, Given) else None
        return ("pool", m.window, divisor, node.terms[0].source)
    if isinstance(node, Concat):
        return ("concat", node.axis, node.pieces)
    if isinstance(node, Elementwise):
        return ("elementwise", node.key, node.source)
    return None
