"""Kernel mode: an expression as one convolution, differentiable in all its tensors."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from convfold.algebra.laws import CHAIN_LAWS
from convfold.algebra.laws.border import pad_first
from convfold.algebra.laws.merge import add_convs, add_transposed, join_blocks, join_rows
from convfold.algebra.laws.special import as_conv, norm_as_affine
from convfold.algebra.laws.unroll import repeat, unroll
from convfold.algebra.operators import (
    Affine,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Flat,
    Identity,
    Norm,
    Op,
    Pad,
    Select,
    Sum,
)
from convfold.algebra.readings.tensors import tensors
from convfold.errors import NotFoldable, Refusal

__all__ = ["kernel"]


def kernel(op: Op, *, running: bool = False, like: Tensor | None = None) -> Conv | ConvTranspose:
    """The one convolution (or transposed convolution) that computes `op`.

    Batch normalisation in training mode is no fixed map: it raises, unless `running` asks for its running
    statistics. The kernel has the dtype and the device of the expression's own tensors; where it holds none
    (a pooling, an identity), those of `like`. Raises NotFoldable, with the reason, where no law applies.
    """
    like = next(tensors(op), torch.empty(0) if like is None else like)
    result = _reduce(op, like, running)
    return result if isinstance(result, ConvTranspose) else as_conv(result, like)


def _norm(op: Norm, running: bool) -> Affine:
    if op.module.training and not running:
        raise NotFoldable(
            Refusal(
                type(op.module).__name__,
                "in training mode it uses the statistics of each batch, so there is no kernel",
                hint='Call eval() first, or build the block with norm="scale" to train in weight space.',
            )
        )
    return norm_as_affine(op)


def _reduce(op: Op, like: Tensor, running: bool) -> Op:
    if isinstance(op, Norm):
        return _norm(op, running)
    if isinstance(op, Chain):
        return reduce(lambda a, b: _chain(a, b, like), [_reduce(part, like, running) for part in op.parts])
    if isinstance(op, Sum):
        return _sum([_reduce(term, like, running) for term in op.terms], like)
    if isinstance(op, Concat):
        return _concat(op, like, running)
    if isinstance(op, Flat):
        inner = _reduce(op.inner, like, running)
        return repeat(inner, op.size) if isinstance(inner, Affine) else unroll(as_conv(inner, like), op.size)
    return op


def _chain(first: Op, second: Op, like: Tensor) -> Op:
    if isinstance(first, Identity):
        return second
    if isinstance(second, Identity):
        return first
    if isinstance(second, Pad) and second.value is not None:
        return _pad_value(first, second, like)
    for law in CHAIN_LAWS:
        if isinstance(first, law.first) and isinstance(second, law.second):
            return law.rewrite(first, second)
    if isinstance(first, ConvTranspose) or isinstance(second, ConvTranspose):
        # A transposed convolution knows only its own laws.
        other = second if isinstance(first, ConvTranspose) else first
        raise NotFoldable(Refusal("ConvTranspose", f"no law joins it with {type(other).__name__}"))
    return _chain(as_conv(first, like), as_conv(second, like), like)


def _pad_value(first: Op, pad: Pad, like: Tensor) -> Op:
    """``pad(x, v) = pad(x - v, 0) + v``; with v the response of the operator before, the padding moves forward."""
    value = pad.value
    assert value is not None  # the caller saw to it
    conv = first if isinstance(first, ConvTranspose) else as_conv(first, like)
    if isinstance(conv, Conv) and _is_response(conv, value):
        return pad_first(conv, pad.pads)
    zero = Pad(pad.channels, pad.pads)
    steps = (Affine(None, -value, pad.dims), zero, Affine(None, value, pad.dims))
    return reduce(lambda a, b: _chain(a, b, like), steps, first)


def _is_response(conv: Conv, value: Tensor) -> bool:
    # The same tensor is known to be equal without a look at its values, on the meta device and in a trace too.
    if conv.bias is value:
        return True
    response = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    return not value.is_meta and torch.equal(response, value.to(response))


def _sum(terms: list[Op], like: Tensor) -> Op:
    transposed = [term for term in terms if isinstance(term, ConvTranspose)]
    if len(transposed) == len(terms):
        return add_transposed(tuple(transposed))
    if transposed:
        raise NotFoldable(Refusal("sum", "a transposed convolution and a convolution do not add to one operator"))
    return add_convs(tuple(as_conv(term, like) for term in terms))


def _concat(op: Concat, like: Tensor, running: bool) -> Op:
    blocks = [_blocks(term) for term in op.terms]
    starts = [0]
    for block, _ in blocks:
        starts.append(starts[-1] + len(block))
    disjoint = starts[-1] == op.in_channels and all(
        block == tuple(range(start, start + len(block))) for (block, _), start in zip(blocks, starts, strict=False)
    )
    if disjoint and len(blocks) > 1:
        joined = join_blocks(tuple(_conv(rest, len(block), op, like, running) for block, rest in blocks))
        if joined is not None:
            return joined
    rows = [_reduce(term, like, running) for term in op.terms]
    if any(isinstance(row, ConvTranspose) for row in rows):
        raise NotFoldable(Refusal("concat", "transposed convolutions are not joined"))
    return join_rows(tuple(as_conv(row, like) for row in rows))


def _blocks(term: Op) -> tuple[tuple[int, ...], tuple[Op, ...]]:
    """The channels a branch reads, when it begins by selecting them, and what it does with them."""
    parts = term.parts if isinstance(term, Chain) else (term,)
    if isinstance(parts[0], Select):
        return parts[0].index, parts[1:]
    return tuple(range(term.in_channels)), parts


def _conv(rest: tuple[Op, ...], width: int, op: Concat, like: Tensor, running: bool) -> Conv:
    inner: Op = Chain(rest) if rest else Identity(width, op.dims)
    return as_conv(_reduce(inner, like, running), like)
