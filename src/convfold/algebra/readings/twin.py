"""Copies of a model, to run or to rewrite in its place."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["twin"]

Model = TypeVar("Model", bound=nn.Module)


def twin(model: Model, replaced: dict[int, Any] | None = None) -> Model:
    """A deep copy of `model`; `replaced` gives other objects for some of its own, by identity.

    A tensor with a history that is kept as an attribute (weight_norm's old form does so after each forward) has
    no deep copy; its values are copied.
    """
    memo: dict[int, Any] = dict(replaced or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)
