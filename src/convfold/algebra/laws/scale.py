"""Per-channel scales and shifts before and after a convolution. A scale is a diagonal: multiplied, not composed."""

from __future__ import annotations

from torch import Tensor

from convfold.algebra.laws.compose import add_biases, push_bias
from convfold.algebra.operators import Affine, Conv
from convfold.errors import NotFoldable, Refusal

__all__ = ["affine_after_affine", "affine_after_conv", "conv_after_affine", "no_map"]


def no_map(affine: Affine) -> None:
    """Raise NotFoldable when the shift is a bias map."""
    if affine.shift is not None and affine.shift.dim() > 1:
        raise NotFoldable(Refusal("affine", "a bias map is not a constant bias", hint="Keep it as an addition."))


def _rows(vector: Tensor, weight: Tensor) -> Tensor:
    return vector.to(weight).reshape(-1, *(1,) * (weight.dim() - 1))


def affine_after_conv(conv: Conv, affine: Affine) -> Conv:
    """BN after: ``s*(W*x + b) + t = (s W)*x + (s b + t)``, s over output channels."""
    no_map(affine)
    weight, bias = conv.weight, conv.bias
    if affine.scale is not None:
        weight = weight * _rows(affine.scale, weight)
        bias = None if bias is None else bias * affine.scale.to(bias)
    shift = None if affine.shift is None else affine.shift.to(weight)
    return Conv(weight, add_biases(bias, shift), conv.window, conv.groups, conv.padding_mode)


def conv_after_affine(affine: Affine, conv: Conv) -> Conv:
    """BN before: ``W*(s x + t) + b = (W s)*x + (sum W t + b)``, s over input channels.

    Raises NotFoldable when a shift meets zero padding: it is no constant at the border.
    """
    no_map(affine)
    weight, pushed = conv.weight, None
    if affine.shift is not None:
        pushed = push_bias(affine.shift.to(weight), conv, "affine")
    if affine.scale is not None:
        blocks = weight.reshape(conv.groups, -1, *weight.shape[1:])
        per_group = affine.scale.to(weight).reshape(conv.groups, 1, -1, *(1,) * conv.dims)
        weight = (blocks * per_group).reshape(weight.shape)
    return Conv(weight, add_biases(pushed, conv.bias), conv.window, conv.groups, conv.padding_mode)


def affine_after_affine(first: Affine, second: Affine) -> Affine:
    """``s2*(s1 x + t1) + t2 = (s2 s1) x + (s2 t1 + t2)``."""
    no_map(first)
    no_map(second)
    scale = first.scale
    shift = first.shift
    if second.scale is not None:
        scale = second.scale if scale is None else scale * second.scale.to(scale)
        shift = None if shift is None else shift * second.scale.to(shift)
    return Affine(scale, add_biases(shift, second.shift), first.dims)
