"""Choosing ranks: by layer within an error, or over the model where error buys most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from convfold.transform.decompose.frame import Frame

__all__ = ["Offer", "first_within", "front", "hull", "spend"]

T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """A frame with its price in MACs and the relative error it is known to stay below; None is the layer as it is."""

    frame: Frame | None
    macs: int
    error: float


def front(offers: Iterable[Offer]) -> list[Offer]:
    """The offers that no other beats in both, by rising MACs and falling error."""
    best: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (o.macs, o.error)):
        if not best or offer.error < best[-1].error:
            best.append(offer)
    return best


def first_within(items: Sequence[T], fits: Callable[[T], bool]) -> T | None:
    """By bisection, the first of `items` that fits where later ones fit better; None where the last does not."""
    if not items or not fits(items[-1]):
        return None
    low, high = -1, len(items) - 1  # `high` fits
    while high - low > 1:
        middle = (low + high) // 2
        if fits(items[middle]):
            high = middle
        else:
            low = middle
    return items[high]


def hull(offers: Sequence[Offer]) -> list[Offer]:
    """The lower convex hull of (MACs, error squared), from the dearest offer down: steps that lose more and more."""
    kept: list[Offer] = []
    for offer in sorted(offers, key=lambda o: (-o.macs, o.error)):
        if kept and offer.macs == kept[-1].macs:
            continue
        while len(kept) > 1 and _slope(kept[-1], offer) <= _slope(kept[-2], kept[-1]):
            kept.pop()
        kept.append(offer)
    return kept


def _slope(dear: Offer, cheap: Offer) -> float:
    """Error squared gained for each MAC saved."""
    return (cheap.error**2 - dear.error**2) / (dear.macs - cheap.macs)


def spend(
    offers: Mapping[str, Sequence[Offer]], *, most_macs: int | None = None, most_error: float | None = None
) -> dict[str, Offer]:
    """One offer per layer, least in the sum of squared errors for its sum of MACs.

    Begins with the dearest of each layer and takes, again and again, the step on a layer's hull that costs least error
    for each MAC saved: greedy, and for convex hulls that is the optimum of the Lagrangian. Stops at `most_macs`, or
    before ``sqrt(sum e^2)`` would pass `most_error`.
    """
    steps = {path: hull(choices) for path, choices in offers.items()}
    place = dict.fromkeys(steps, 0)
    total = sum(choices[0].macs for choices in steps.values())
    queue = sorted(
        (_slope(a, b), path, index + 1)
        for path, choices in steps.items()
        for index, (a, b) in enumerate(pairwise(choices))
    )
    squares = 0.0
    closed: set[str] = set()
    for _, path, index in queue:
        if most_macs is not None and total <= most_macs:
            break
        before, after = steps[path][index - 1], steps[path][index]
        gained = after.error**2 - before.error**2
        if path in closed or (most_error is not None and squares + gained > most_error**2):
            closed.add(path)  # steps of a layer come in order
            continue
        squares += gained
        total -= before.macs - after.macs
        place[path] = index
    if most_macs is not None:
        _refund(offers, steps, place, most_macs - total)
    return {path: steps[path][index] for path, index in place.items()}


def _refund(
    offers: Mapping[str, Sequence[Offer]], steps: dict[str, list[Offer]], place: dict[str, int], spare: int
) -> None:
    """What the last step saved beyond the target buys back error, on offers beside the hull too."""
    while spare > 0:
        best: tuple[float, str, Offer] | None = None
        for path, choices in offers.items():
            now = steps[path][place[path]]
            for offer in choices:
                gain = now.error**2 - offer.error**2
                if gain > 0 and 0 < offer.macs - now.macs <= spare and (best is None or gain > best[0]):
                    best = (gain, path, offer)
        if best is None:
            return
        _, path, offer = best
        spare -= offer.macs - steps[path][place[path]].macs
        steps[path] = [offer]
        place[path] = 0
