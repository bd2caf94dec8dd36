"""Rebuilding an expression with other tensors: in another precision, or with absolute values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from convfold.algebra.laws.special import norm_as_affine
from convfold.algebra.operators import Affine, Chain, Concat, Conv, ConvTranspose, Flat, Norm, Op, Pad, Sum

__all__ = ["frozen", "leaves", "magnitude", "map_leaves", "map_tensors", "tensors", "to_meta"]


def map_leaves(op: Op, change: Callable[[Op], Op]) -> Op:
    """The same expression with `change` applied to every operator that holds no other."""
    if isinstance(op, Chain):
        return Chain(tuple(map_leaves(part, change) for part in op.parts))
    if isinstance(op, Sum):
        return Sum(tuple(map_leaves(term, change) for term in op.terms))
    if isinstance(op, Concat):
        return Concat(tuple(map_leaves(term, change) for term in op.terms))
    if isinstance(op, Flat):
        return replace(op, inner=map_leaves(op.inner, change))
    return change(op)


def leaves(op: Op) -> Iterator[Op]:
    """Every operator that holds no other, in order."""
    if isinstance(op, (Chain, Sum, Concat)):
        for inner in op.parts if isinstance(op, Chain) else op.terms:
            yield from leaves(inner)
    elif isinstance(op, Flat):
        yield from leaves(op.inner)
    else:
        yield op


def tensors(op: Op) -> Iterator[Tensor]:
    """Every tensor of the expression, kernels first, those of batch normalisations included."""
    found: list[Tensor | None] = []
    for leaf in leaves(op):
        if isinstance(leaf, (Conv, ConvTranspose)):
            found += [leaf.weight, leaf.bias]
    for leaf in leaves(op):
        if isinstance(leaf, Affine):
            found += [leaf.scale, leaf.shift]
        elif isinstance(leaf, Pad):
            found.append(leaf.value)
        elif isinstance(leaf, Norm):
            found += [*leaf.module.parameters(), *leaf.module.buffers()]
    yield from (t for t in found if t is not None and t.is_floating_point())


def map_tensors(op: Op, change: Callable[[Tensor], Tensor], dtype: torch.dtype | None = None) -> Op:
    """The expression with `change` applied to every tensor, batch normalisations replaced by running statistics.

    `dtype` is the precision in which those statistics become a scale and a shift.
    """

    # A tensor that stands in two places stays one tensor: laws recognise it without looking at values.
    # The originals are held too: an identity is only unique while its tensor lives.
    changed: dict[int, tuple[Tensor, Tensor]] = {}

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in changed:
            changed[id(tensor)] = (tensor, change(tensor))
        return changed[id(tensor)][1]

    def maybe(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else once(tensor)

    def leaf(found: Op) -> Op:
        if isinstance(found, Norm):
            found = norm_as_affine(found, dtype)
        if isinstance(found, (Conv, ConvTranspose)):
            return replace(found, weight=once(found.weight), bias=maybe(found.bias))
        if isinstance(found, Affine):
            return replace(found, scale=maybe(found.scale), shift=maybe(found.shift))
        if isinstance(found, Pad):
            return replace(found, value=maybe(found.value))
        return found

    return map_leaves(op, leaf)


def frozen(op: Op, dtype: torch.dtype) -> Op:
    """The expression in `dtype`, batch normalisations replaced by their running statistics."""
    return map_tensors(op, lambda tensor: tensor.to(dtype), dtype)


def to_meta(op: Op) -> Op:
    """The shapes of the expression alone: every tensor on the meta device."""
    return map_tensors(op, lambda tensor: tensor.detach().to("meta"))


def magnitude(op: Op) -> Op:
    """Every tensor by its absolute value: applied to |x| it gives the sum of the absolute terms of ``op(x)``.

    That sum is the scale of rounding errors: ``|fl(y) - y| <= gamma_L * magnitude(op)(|x|)`` for an
    evaluation whose longest path adds and multiplies L times (Higham, Accuracy and Stability, ch. 3).
    """
    return map_tensors(op, torch.Tensor.abs)
