"""The operators: a small closed set of frozen affine maps on tensors of shape (N, C, *spatial).

An expression is built with three signs: ``a >> b`` (first a, then b), ``a + b`` (branches added) and
``p * a`` (scaled by a number); `Concat` joins branches on the channel axis. Operators hold live tensors and
modules; they compute nothing. What an expression means is given by the readings.

`dims` is the number of spatial axes; 0 is a fully connected layer on (N, C).
"""

from convfold.algebra.operators.base import Affine, Chain, Concat, Flat, Op, Sum, chain_of, sum_of
from convfold.algebra.operators.leaf import (
    AvgPool,
    Conv,
    ConvTranspose,
    Identity,
    Norm,
    Pad,
    Pads,
    Select,
    pointwise,
)

__all__ = [
    "Affine",
    "AvgPool",
    "Chain",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flat",
    "Identity",
    "Norm",
    "Op",
    "Pad",
    "Pads",
    "Select",
    "Sum",
    "chain_of",
    "pointwise",
    "sum_of",
]
