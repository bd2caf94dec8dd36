"""The search on a file's program, and on what it becomes without changes of layout that undo each other."""

from __future__ import annotations

from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Program
from convfold.plan.onnx.views import settled
from convfold.plan.search.price import FREE, Objective, Pricer
from convfold.plan.search.search import Accepted, Rewritten, search

__all__ = ["best"]

# What a search folds away may leave two changes of layout next to each other: then again.
_ROUNDS = 8


def best(captured: CapturedFile, kept: frozenset[int], objective: Objective, pricer: Pricer) -> Rewritten:
    """The cheapest form of a file's program that the moves find; values `kept` stay as they are."""
    plain = Rewritten(captured.program, FREE)

    def searched(before: Rewritten, program: Program, steps: tuple[Accepted, ...] = ()) -> Rewritten:
        found = search(program, kept, objective, pricer=pricer, alive=captured.alive)
        found.accepted = [*before.accepted, *steps, *found.accepted]
        found.reasons = {**before.reasons, **found.reasons}
        return found

    found = searched(plain, captured.program)
    starts = [plain, found]
    for _ in range(_ROUNDS):
        settlings = [(start, settled(captured, start.program, kept)) for start in starts]
        later = [searched(start, *settling) for start, settling in settlings if settling is not None]
        better = [one for one in later if objective(one.price.minus(found.price))]
        if not better:
            break
        found = better[0]
        for other in better[1:]:
            found = other if objective(other.price.minus(found.price)) else found
        starts = [found]
    return found
