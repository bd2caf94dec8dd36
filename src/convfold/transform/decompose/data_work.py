"""One layer held to the error of its output over data, its factors fitted there or to the kernel alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from convfold.transform.decompose.factors import compose, gamma, longest, norm, stored
from convfold.transform.decompose.frame import Frame
from convfold.transform.decompose.layer import Layer
from convfold.transform.decompose.moments import Moments, summed
from convfold.transform.decompose.refine import principal, refine
from convfold.transform.decompose.work import Outcome, Work

__all__ = ["DataWork"]


@dataclass(frozen=True)
class _Fit:
    """Factors as they will be kept, by how much their product differs from the kernel, and what the bias gains."""

    frame: Frame
    weights: tuple[Tensor, ...]
    change: Tensor  # (g, rows, columns * taps)
    shift: Tensor | None  # (g, rows)

    def error(self, moments: Moments) -> float:
        """``||y' - y|| / ||y||`` over that data."""
        return (moments.square(self.change, self.shift) / moments.output) ** 0.5 if moments.output else 0.0


@dataclass
class DataWork(Work):
    """A layer held to ``||y' - y|| / ||y||`` over the positions of all data, y its outputs.

    `moments` are those of the parts fitted to, of validation and held out. Both candidates are made without the last
    two: factors of the kernel, and factors of the output. Which is kept, validation says; what is kept of the second
    kind is fitted again to all data.
    """

    moments: Sequence[Moments]
    limit: float | None = None
    _fits: dict[Frame, _Fit] = field(default_factory=dict, init=False)

    @cached_property
    def whole(self) -> Moments:
        return summed(self.moments)

    @property
    def cheap(self) -> bool:
        return self.method.name == "svd"

    def frames(self, cheaper: bool) -> list[Frame]:
        """Across channels only with the whole kernel first: for it the best factors are known in closed form."""
        frames = super().frames(cheaper)
        return [frame for frame in frames if self._closed(frame)] if self.cheap else frames

    def _closed(self, frame: Frame) -> bool:
        return self.method.name == "svd" and len(frame.parts[0].axes) == len(self.layer.shape.kernel)

    @cached_property
    def _left_out(self) -> Tensor:
        """Eigenvalues of the outputs' second moment summed from each on: the squared error at every rank."""
        values = principal(*self.whole.problem(self.layer.weight, self.layer.bias is not None), 1)[2].sum(0)
        return torch.cat([values.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])

    def estimate(self, frame: Frame) -> float:
        if not self.whole.output:
            return 0.0
        if self._closed(frame) and not self.whole.missing:
            assert isinstance(frame.rank, int)
            return float((self._left_out[frame.rank] / self.whole.output) ** 0.5)
        return self._of_weights(frame).error(self.whole)

    def within(self, limit: float, cheaper: bool) -> Outcome | str:
        self.limit = limit
        return super().within(limit, cheaper)

    def bound(self, frame: Frame) -> float:
        return self._outcome(self._of_all(frame), "data").bound

    def _of_all(self, frame: Frame) -> _Fit:
        """Fitted to all data; once per frame."""
        if frame not in self._fits:
            self._fits[frame] = self._of_data(frame, self.whole)
        return self._fits[frame]

    def _finish(self, frame: Frame) -> Outcome:
        plain = self._of_weights(frame)
        errors: list[dict[str, float]] | None = None
        chosen = "data"
        if all(part.count for part in self.moments):
            fitted = self._of_data(frame, self.moments[0])
            errors = [{"data": fitted.error(part), "weights": plain.error(part)} for part in self.moments[1:]]
            chosen = "data" if errors[0]["data"] <= errors[0]["weights"] else "weights"
        best = self._of_all(frame) if chosen == "data" else plain
        outcome = self._outcome(best, chosen)
        if chosen == "weights" and self.limit is not None and outcome.bound > self.limit:
            other = self._outcome(self._of_all(frame), "data")
            outcome = other if other.bound <= self.limit else outcome  # the limit was asked for
        if errors is not None:
            outcome = replace(outcome, validation=errors[0], held_out=errors[1])
        return outcome

    def _of_weights(self, frame: Frame) -> _Fit:
        kept = stored(self.solver.solve(frame).weights, self.layer.dtype)
        return _Fit(frame, kept, self._change(frame, kept), None)

    def _of_data(self, frame: Frame, moments: Moments) -> _Fit:
        layer = self.layer
        target, metric = moments.problem(layer.weight, layer.bias is not None)
        groups, kernel = layer.shape.groups, layer.shape.kernel
        if self._closed(frame):
            assert isinstance(frame.rank, int)
            basis, reduced, _ = principal(target, metric, frame.rank)
            first, last = (part.shape(kernel) for part in frame.parts)
            weights: tuple[Tensor, ...] = (reduced.reshape(first), basis.reshape(last))
        else:
            weights = refine(frame.parts, self.solver.solve(frame).weights, groups, target, metric)
        kept = stored(weights, layer.dtype)
        change = self._change(frame, kept)
        if layer.bias is None:
            return _Fit(frame, kept, change, None)
        shift = moments.best_shift(change)
        bias = layer.bias.reshape(shift.shape)
        return _Fit(frame, kept, change, stored([bias + shift], layer.dtype)[0] - bias)

    def _change(self, frame: Frame, weights: Sequence[Tensor]) -> Tensor:
        return (compose(frame.parts, weights, self.layer.shape.groups) - self.layer.weight).flatten(2)

    def _outcome(self, fit: _Fit, chosen: str) -> Outcome:
        """The error over all data by its moments, with what rounding may add to it.

        Summing P products moves a moment by gamma_P of the absolute terms, which ``sum_i |d_i| ||x_i||`` bounds
        (Cauchy and Schwarz); running the layer and the factors moves an output by gamma_L of theirs.
        """
        layer, moments, parts = self.layer, self.whole, fit.frame.parts
        lengths, bias = moments.lengths().unsqueeze(-1), layer.bias
        own = norm(fit.change.abs() @ lengths) ** 2 + moments.missing
        moved = 0.0 if fit.shift is None else moments.count * float(fit.shift.square().sum())
        square = moments.square(fit.change, fit.shift) + 4 * gamma(moments.count + own_length(layer)) * (own + moved)
        absolute = compose(parts, [weight.abs() for weight in fit.weights], layer.shape.groups) + layer.weight.abs()
        terms = norm(absolute.flatten(2) @ lengths)
        if bias is not None:
            terms += 2 * moments.count**0.5 * (norm(bias) + (moved / moments.count) ** 0.5 if moments.count else 0.0)
        evaluation = gamma(longest(parts) + own_length(layer)) * terms
        size = moments.output**0.5
        bound = (square**0.5 + evaluation) * (1 + gamma(moments.count * layer.shape.outputs)) / size if size else 0.0
        shifted = None if bias is None else bias + (0 if fit.shift is None else fit.shift.flatten())
        return Outcome(fit.frame, fit.weights, shifted, bound, fit.error(moments), chosen)


def own_length(layer: Layer) -> int:
    """Operations on the path to one output of the layer itself, its bias included."""
    return layer.shape.columns * layer.shape.taps + 3
