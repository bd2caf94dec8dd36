"""One layer being decomposed by one method: what each frame costs, and how far it is from the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from convfold.transform.decompose.factors import Solution, compose, gamma, longest, norm, stored
from convfold.transform.decompose.frame import Call, Frame, Part, macs
from convfold.transform.decompose.layer import Layer
from convfold.transform.decompose.method import Method, Solver
from convfold.transform.decompose.pick import Offer, first_within, front

__all__ = ["Outcome", "Work"]

_OFFERS = 24  # ranks at most for which an error is computed that costs more than a sum


@dataclass(frozen=True)
class Outcome:
    """Factors as they will be kept, the relative error that they are held to, and the one that they have."""

    frame: Frame
    weights: tuple[Tensor, ...]
    bias: Tensor | None
    bound: float
    error: float
    fitted: str = ""
    validation: dict[str, float] | None = None
    held_out: dict[str, float] | None = None


@dataclass
class Work:
    """A layer held to the error of its kernel: ``||W - W'||_F / ||W||_F``."""

    layer: Layer
    method: Method
    calls: Sequence[Call]
    _outcomes: dict[Frame, Outcome] = field(default_factory=dict, init=False)

    @cached_property
    def solver(self) -> Solver:
        return self.method.solver(self.layer.weight)

    @cached_property
    def before(self) -> int:
        """MACs of the layer as it is."""
        shape = self.layer.shape
        whole = Part(shape.inputs, shape.outputs, shape.groups, tuple(range(len(shape.kernel))))
        return macs([whole], self.layer.window, self.calls)

    def macs(self, frame: Frame) -> int:
        return macs(frame.parts, self.layer.window, self.calls)

    @property
    def cheap(self) -> bool:
        """Whether `estimate` is a sum of what is known, and never below what `finish` reaches but for rounding."""
        return self.method.a_priori

    def estimate(self, frame: Frame) -> float:
        """The relative error that factors of this frame will not exceed, rounding aside."""
        size = norm(self.layer.weight)
        return self.solver.tail(frame) / size if size else 0.0

    def finish(self, frame: Frame) -> Outcome:
        """The factors, and their error; once per frame."""
        if frame not in self._outcomes:
            self._outcomes[frame] = self._finish(frame)
        return self._outcomes[frame]

    def bound(self, frame: Frame) -> float:
        """The bound that a frame can be held to."""
        return self.finish(frame).bound

    def _finish(self, frame: Frame) -> Outcome:
        return weight_outcome(self.layer, self.solver.solve(frame))

    def frames(self, cheaper: bool) -> list[Frame]:
        """All frames, or those that cost less than the layer does."""
        frames = self.method.frames(self.layer.shape)
        return [frame for frame in frames if not cheaper or self.macs(frame) < self.before]

    def offers(self, cheaper: bool = True) -> list[Offer]:
        """The layer as it is, and each frame that is worth its price."""
        frames = self.frames(cheaper)
        if not self.cheap:
            # At one rank the price alone tells frames apart, so the cheapest of each stands for it.
            frames = _spread(_cheapest(frames, self.macs), _OFFERS)
        return [
            *front(Offer(frame, self.macs(frame), self.estimate(frame)) for frame in frames),
            Offer(None, self.before, 0.0),
        ]

    def of_rank(self, frames: Sequence[Frame]) -> Frame:
        """Of frames of one rank: one that is exact where there is one, then the cheapest, then the closest."""
        exact = [frame for frame in frames if self.method.exact(self.layer.shape, frame)]
        chosen = exact or list(frames)
        least = min(self.macs(frame) for frame in chosen)
        cheapest = [frame for frame in chosen if self.macs(frame) == least]
        return min(cheapest, key=self.estimate) if len(cheapest) > 1 and self.cheap else cheapest[0]

    def within(self, limit: float, cheaper: bool) -> Outcome | str:
        """The cheapest outcome whose bound is at most `limit`, or why there is none."""
        frames = self.frames(cheaper)
        if not frames:
            return "no rank has fewer MACs than the layer itself"
        if self.cheap:
            offers = front(Offer(frame, self.macs(frame), self.estimate(frame)) for frame in frames)
            ordered = [offer.frame for offer in offers if offer.frame is not None]
            near = [offer.frame for offer in offers if offer.error <= limit and offer.frame is not None]
            # Rounding may put the first above the limit; the next are closer.
            for frame in near[:2]:
                if (outcome := self.finish(frame)).bound <= limit:
                    return outcome
        elif self.method.a_priori:  # what the kernel loses orders the frames, though data decides
            size = norm(self.layer.weight) or 1.0
            offers = front(Offer(frame, self.macs(frame), self.solver.tail(frame) / size) for frame in frames)
            ordered = [offer.frame for offer in offers if offer.frame is not None]
        else:
            ordered = _cheapest(frames, self.macs)
        found = first_within(ordered, lambda frame: self.bound(frame) <= limit)
        if found is not None and (outcome := self.finish(found)).bound <= limit:
            return outcome
        least = min(self.bound(ordered[-1]), *(o.bound for o in self._outcomes.values()))
        less = " with fewer MACs than the layer itself" if cheaper else ""
        return f"an error of {least:.3g} is the least it can be held to{less}"


def weight_outcome(layer: Layer, solution: Solution) -> Outcome:
    """The factors kept in the layer's dtype, and the error of their product against the kernel.

    bound = (tail + rounding of the decomposition + what the cast moved the product + evaluation) / ||W||: with
    ``||W - W'|| <= ||W - P|| + ||P - P'||`` for P the product before the cast and P' after; the second is measured, and
    evaluating a product of L operations moves it by at most ``gamma_L || |factors| ||``.
    """
    parts, groups = solution.frame.parts, layer.shape.groups
    kept = stored(solution.weights, layer.dtype)
    before, after = compose(parts, solution.weights, groups), compose(parts, kept, groups)
    absolute = compose(parts, [weight.abs() for weight in solution.weights], groups)
    size = norm(layer.weight)
    evaluation = gamma(longest(parts) + 4) * (3 * norm(absolute) + norm(layer.weight))
    total = solution.tail + solution.rounding + norm(before - after) + evaluation
    error = norm(layer.weight - after)
    bound = total * (1 + gamma(layer.weight.numel()))  # a norm of N entries is itself rounded
    bias = layer.bias
    if not size:
        return Outcome(solution.frame, kept, bias, 0.0, 0.0 if not error else float("inf"))
    return Outcome(solution.frame, kept, bias, bound / size, error / size)


def _cheapest(frames: Sequence[Frame], price: object) -> list[Frame]:
    """The cheapest frame of each rank, by rising price."""
    assert callable(price)
    best: dict[object, Frame] = {}
    for frame in frames:
        if frame.rank not in best or price(frame) < price(best[frame.rank]):
            best[frame.rank] = frame
    return sorted(best.values(), key=price)


def _spread(frames: Sequence[Frame], most: int) -> list[Frame]:
    """`most` of them, evenly by place, both ends among them."""
    if len(frames) <= most:
        return list(frames)
    places = sorted({round(index * (len(frames) - 1) / (most - 1)) for index in range(most)})
    return [frames[place] for place in places]
