"""The laws between operators, one function per law, and the ordered table that the kernel reading consults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from convfold.algebra.laws.compose import compose
from convfold.algebra.laws.scale import affine_after_affine, affine_after_conv, conv_after_affine
from convfold.algebra.laws.select import columns_of, rows_of, select_after_select
from convfold.algebra.laws.transpose import (
    affine_after_transposed,
    pointwise_after_transposed,
    transposed_after_affine,
    transposed_after_pointwise,
)
from convfold.algebra.operators import Affine, Conv, ConvTranspose, Op, Select

__all__ = ["CHAIN_LAWS", "Law"]


class Law(NamedTuple):
    """``second`` after ``first`` is the operator that `rewrite` returns."""

    first: type[Op]
    second: type[Op]
    rewrite: Callable[[Any, Any], Op]


# The first row that matches is used. Diagonals and selections stand before the general composition,
# because they are multiplied and gathered, not composed.
CHAIN_LAWS: tuple[Law, ...] = (
    Law(Affine, Affine, affine_after_affine),
    Law(Select, Select, select_after_select),
    Law(Conv, Affine, affine_after_conv),
    Law(Affine, Conv, conv_after_affine),
    Law(Conv, Select, rows_of),
    Law(Select, Conv, columns_of),
    Law(ConvTranspose, Affine, affine_after_transposed),
    Law(Affine, ConvTranspose, transposed_after_affine),
    Law(ConvTranspose, Conv, pointwise_after_transposed),
    Law(Conv, ConvTranspose, transposed_after_pointwise),
    Law(Conv, Conv, compose),
)
