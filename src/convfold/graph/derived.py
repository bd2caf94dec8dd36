"""The tensors that rules derive from constants: what their keys mean, in whichever precision is asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

__all__ = ["derive", "derived_from"]

_OF_ONE = ("flat", "transposed", "negative", "inverse", "times", "rows", "columns")


def derived_from(key: Hashable) -> list[Hashable]:
    """The keys that a derived one is made of.

    Keys: ("scalar", v), ("flat", key), ("transposed", key), ("negative", key), ("inverse", key),
    ("times", key, factor), ("rows", key, start, stop), ("columns", key, start, stop),
    ("norm scale", weight, variance, eps), ("norm shift", bias, mean, scale).
    """
    if not isinstance(key, tuple):
        return []
    kind, *rest = key
    if kind in _OF_ONE:
        return [rest[0]]
    if kind == "norm scale":
        return [k for k in rest[:2] if k is not None]
    if kind == "norm shift":
        return [k for k in rest if k is not None]
    return []


def derive(key: Hashable, tensor: Callable[[Hashable], Tensor], dtype: torch.dtype | None) -> Tensor:
    """The derived tensor, `tensor` giving those that it is made of."""
    assert isinstance(key, tuple)
    kind, *rest = key
    if kind == "scalar":
        return torch.tensor([rest[0]], dtype=dtype or torch.float64)
    if kind == "norm scale":
        return _norm_scale(*(None if k is None else tensor(k) for k in rest[:2]), rest[2])
    if kind == "norm shift":
        bias, mean, scale = (None if k is None else tensor(k) for k in rest)
        assert mean is not None
        assert scale is not None
        return -mean * scale if bias is None else bias - mean * scale
    found = tensor(rest[0])
    return _OPERATIONS[kind](found, *rest[1:])


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "flat": lambda tensor: tensor.detach().reshape(-1),
    "transposed": lambda tensor: tensor.detach().t(),
    "negative": lambda tensor: -tensor,
    "inverse": lambda tensor: tensor.reciprocal(),
    "times": lambda tensor, factor: tensor * factor,
    "rows": lambda tensor, start, stop: tensor[start:stop],
    "columns": lambda tensor, start, stop: tensor[:, start:stop],
}


def _norm_scale(weight: Tensor | None, variance: Any, eps: float) -> Tensor:
    root = torch.rsqrt(variance + eps)
    return root if weight is None else weight * root
