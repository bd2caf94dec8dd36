"""fold: the plain model that computes the same."""

from __future__ import annotations

from torch import nn

from convfold.errors import NotFoldable
from convfold.plan import plan

__all__ = ["fold"]


def fold(model: nn.Module, example_inputs: object = None) -> nn.Module:
    """The folded copy of `model`: ``plan(model, example_inputs).apply()``, strictly.

    ``fold(model)(x) = model.eval()(x)`` for every x: blocks become one convolution, batch normalisations are
    taken into the convolution before them. `model` stays bit-identical; the copy keeps its classes, names, mode
    and everything that was not folded. Folding twice is folding once. A bare block gives its convolution.

    Raises NotFoldable, naming the layer, when a batch normalisation inside a foldable region is in training
    mode or a weight there is not finite. Everything else that does not fold is left alone: see `plan`.
    """
    decided = plan(model, example_inputs)
    if decided.blocking:
        raise NotFoldable(decided.blocking[0])
    return decided.apply()
