"""The oracle: an expression as a matrix, found by impulses. It uses no law."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from convfold.algebra.operators import Op
from convfold.algebra.readings.apply import apply

__all__ = ["dense"]


def dense(op: Op, size: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """``vec(op(x)) = A vec(x) + b`` for inputs of spatial `size`: returns A (rows, columns) and b (rows,).

    b is the response to zero; column c of A is the response to a one at c, less b. Memory and time grow with
    the square of the map: meant for small sizes.
    """
    width = op.in_channels * prod(size)
    impulses = torch.cat([torch.zeros(1, width, dtype=dtype), torch.eye(width, dtype=dtype)])
    with torch.no_grad():
        responses = apply(op, impulses.reshape(width + 1, op.in_channels, *size)).flatten(1)
    return (responses[1:] - responses[0]).T, responses[0]
