"""The search: moves are tried value by value, and kept while the objective says that they pay."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from convfold.errors import NotFoldable
from convfold.graph.program import Linear, Program
from convfold.plan.search.move import LAWS, Move
from convfold.plan.search.moves import moves
from convfold.plan.search.price import FREE, Objective, Price, Pricer, by_macs, has_bias_map, price, term_macs
from convfold.plan.search.state import Draft, Outcome, State

__all__ = ["Accepted", "Rewritten", "search"]


@dataclass(frozen=True)
class Accepted:
    """A move that was made: on which value, by which law, what it changed and dropped, and what it saved."""

    number: int
    law: str
    changed: tuple[int, ...]
    dropped: tuple[int, ...]
    change: Price


@dataclass
class Rewritten:
    """A planned program, the moves that led there, and for values where none paid, the last reason why."""

    program: Program
    price: Price
    accepted: list[Accepted] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)


def search(
    program: Program,
    kept: frozenset[int] = frozenset(),
    objective: Objective = by_macs,
    both: bool = True,
    pricer: Pricer = price,
    alive: frozenset[int] = frozenset(),
) -> Rewritten:
    """The cheapest form of `program` by `pricer` that the moves find; values `kept` stay as they are,
    values `alive` stay computed.

    The outcome depends on the order in which values are visited: backwards and (with `both`) forwards are
    tried, and the better one is returned. Every accepted move lowers the objective, so it ends.
    """
    backward = _run(State(program, kept, pricer, alive), objective, reverse=True, both=both)
    if not both:
        return backward
    forward = _run(State(program, kept, pricer, alive), objective, reverse=False, both=both)
    # Forwards, what is near is folded before what is far: of equals, more of the model stays as it is.
    change = backward.price.minus(forward.price)
    traded = not objective(forward.price.minus(backward.price)) and change[:4] < FREE[:4]
    return backward if objective(change) or traded else forward


def _run(state: State, objective: Objective, reverse: bool, both: bool) -> Rewritten:
    """Visit all values in one direction, and (with `both`) in the other and back, until neither finds a move."""
    found = Rewritten(state.program, state.total())
    idle = 0
    while idle < (2 if both else 1):
        made = len(found.accepted)
        _pass(state, objective, reverse, found)
        idle = 1 if len(found.accepted) > made else idle + 1
        reverse = not reverse
        if not both:
            break
    found.program, found.price = state.finished(), state.total()
    return found


def _pass(state: State, objective: Objective, reverse: bool, found: Rewritten) -> None:
    order = sorted(state.nodes, reverse=reverse)
    # What a frontend vouches for comes first: later, what it reads may be written out already.
    vouched = [number for number in order if number in state.program.alternatives]
    queue, waiting = deque([*vouched, *order]), set(order)
    while queue:
        number = queue.popleft()
        waiting.discard(number)
        if number not in state.nodes or number in state.kept:
            continue
        touched = _improve(state, number, objective, found)
        for other in sorted(touched, reverse=reverse):
            if other in state.nodes and other not in waiting:
                waiting.add(other)
                queue.append(other)


def _improve(state: State, number: int, objective: Objective, found: Rewritten) -> set[int]:
    """Make the best move on this value, if one pays; the values whose moves may have changed by it."""
    best: tuple[Move, Draft, Outcome] | None = None
    reason = ""
    for move in moves(state, number):
        draft = Draft.empty()
        try:
            move.write(draft)
        except NotFoldable as error:
            reason = reason or error.refusal.reason
            continue
        if draft.found and state.is_circular(draft):
            continue
        outcome = state.weigh(draft)
        if not _pays(draft, outcome, objective):
            reason = reason or _dearer(outcome.change)
            continue
        if best is None or objective(outcome.change.minus(best[2].change)) or _smaller((move, draft, outcome), best):
            best = (move, draft, outcome)
        if move.law != "columns" and _least(state, draft, outcome, number):
            break
    if best is None:
        if reason:
            found.reasons[number] = reason
        return set()
    move, draft, outcome = best
    near = _near(state, {*draft.changes, *outcome.dead})
    state.accept(draft, outcome)
    found.accepted.append(
        Accepted(number, LAWS[move.law], tuple(draft.changes), tuple(sorted(outcome.dead)), outcome.change)
    )
    return near | {number} | _near(state, set(draft.changes))


def _pays(draft: Draft, outcome: Outcome, objective: Objective) -> bool:
    if not objective(outcome.change):
        return False
    mapped = any(has_bias_map(node) for node in draft.changes.values())
    return not mapped or outcome.change.macs < 0 or outcome.change.convolutions < 0


def _smaller(one: tuple[Move, Draft, Outcome], other: tuple[Move, Draft, Outcome]) -> bool:
    """Whether, of two moves of one price, the first leaves more of the model as it is."""
    if one[2].change != other[2].change:
        return False
    sizes = [(move.law == "columns", len(draft.changes) + len(out.dead)) for move, draft, out in (one, other)]
    return sizes[0] < sizes[1]


def _least(state: State, draft: Draft, outcome: Outcome, number: int) -> bool:
    """Whether no smaller move on this value can do better: one map, no dearer than the dearest that it replaces."""
    node = draft.changes.get(number)
    if not isinstance(node, Linear) or len(node.terms) != 1:
        return False
    replaced = [state.prices[n].macs for n in (*outcome.dead, number) if n in state.prices]
    term = node.terms[0]
    # The source may be new.
    read = prod(state.value(term.source, draft).shape)
    return term_macs(term.map, read, state.size(number)) <= max(replaced)


def _near(state: State, numbers: Iterable[int]) -> set[int]:
    """The values next to these: what they read, what reads them, and what reads that."""
    near: set[int] = set()
    for number in numbers:
        node = state.nodes.get(number)
        near |= set(node.inputs) if node is not None else set()
        near.add(number)
        for reader in state.readers.get(number, ()):
            near |= {reader, *state.readers[reader]}
    return near


def _dearer(change: Price) -> str:
    names = ("MACs", "convolutions", "operators", "elements written")
    worse = [f"{amount:+,} {name}" for amount, name in zip(change, names, strict=False) if amount > 0]
    return f"it would not be cheaper: {', '.join(worse) if worse else 'nothing would be saved'}"
