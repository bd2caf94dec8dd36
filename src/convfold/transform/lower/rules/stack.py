"""A large kernel as small ones after each other, where it is such a product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from convfold.algebra import Conv
from convfold.geometry import Axis
from convfold.transform.lower.rules.polynomials import pieces

__all__ = ["Factored", "stacked"]

# Kernels that cancel each other by more would cost digits.
_MOST = 16.0


@dataclass(frozen=True)
class Factored:
    """Convolutions without padding that make up one, and how much larger their absolute values compose to."""

    convs: tuple[Conv, ...]
    amplification: float


def stacked(conv: Conv, size: int) -> Factored | None:
    """`conv`, whose padding is taken off, as convolutions of `size` taps at most; None where it is no such product.

    Wherever ``W[o, c, j] = A[o, c] * prod_a u_a[c, j_a]`` within a group (or ``u_a[o, j_a]``): each u_a is a real
    polynomial, and so a product of quadratic ones. Every stage but one is depthwise, the last (or the first) holds A;
    the stride is the last one's, the dilation everybody's. A depthwise kernel that is an outer product is of this form,
    blurs are, and every dense kernel that shares one such shape between its channels. Zeros that fill up the last
    stage make the composed kernel longer: the window of the first stage pads for it. Up to rounding of the weights in
    their own precision; None also where that would show, or where it would multiply more than the kernel itself.
    """
    if size < 3:
        return None
    for by_input in (True, False):
        found = _stacked(conv, size, by_input)
        if found is not None:
            return found
    return None


def _stacked(conv: Conv, size: int, by_input: bool) -> Factored | None:
    taps = tuple(1 if axis.kernel == 1 else 2 * ((size - 1) // 2) + 1 for axis in conv.window)
    count = max(-(-(axis.kernel - 1) // (t - 1)) for axis, t in zip(conv.window, taps, strict=True) if t > 1)
    if not _cheaper(conv, taps, count, by_input):
        return None
    unit = torch.finfo(conv.weight.dtype).eps
    weight = conv.weight.detach().double()
    blocks = weight.reshape(conv.groups, -1, *weight.shape[1:])
    blocks = blocks if by_input else blocks.transpose(1, 2)
    shape = _shape(blocks, unit)
    fibres = None if shape is None else _fibres(shape[1], unit)
    if shape is None or fibres is None:
        return None
    matrix = shape[0] if by_input else shape[0].transpose(1, 2)
    stages = [_outer([[pieces(u, t, count)[i] for u in axis] for axis, t in zip(fibres, taps, strict=True)])
              for i in range(count)]  # fmt: skip
    kernels, groups = _kernels(stages, matrix, conv, by_input)
    kernels = [kernel.to(conv.weight.dtype) for kernel in kernels]
    amplification = _amplification(conv, stages, matrix, weight, by_input, unit)
    if amplification is None:
        return None
    convs = []
    for i, (kernel, g) in enumerate(zip(kernels, groups, strict=True)):
        last = i == count - 1
        window = tuple(
            Axis(t, axis.stride if last else 1, axis.dilation) for t, axis in zip(taps, conv.window, strict=True)
        )
        if i == 0:
            longer = [
                axis.dilation * (count * (t - 1) + 1 - axis.kernel) for axis, t in zip(conv.window, taps, strict=True)
            ]
            window = tuple(replace(axis, hi=more) for axis, more in zip(window, longer, strict=True))
        convs.append(Conv(kernel, conv.bias if last else None, window, g))
    return Factored(tuple(convs), amplification)


def _cheaper(conv: Conv, taps: tuple[int, ...], count: int, by_input: bool) -> bool:
    """Whether the stages multiply less for one output, the sizes of the maps between them aside."""
    ins, outs, strides = conv.in_channels, conv.out_channels, prod(axis.stride for axis in conv.window)
    mixing = outs * ins // conv.groups
    if by_input:
        stages = (count - 1) * ins * strides + mixing
    else:
        stages = (mixing + max(count - 2, 0) * outs) * strides + outs if count > 1 else mixing
    return stages * prod(taps) < mixing * prod(axis.kernel for axis in conv.window)


def _shape(blocks: Tensor, unit: float) -> tuple[Tensor, Tensor] | None:
    """``blocks[g, o, c] = A[g, o, c] * s[g, c]`` as (A, s): s is the row of greatest norm; None where it is not so."""
    flat = blocks.flatten(3)
    pivot = flat.norm(dim=3).argmax(dim=1)
    shape = flat.gather(1, pivot[:, None, :, None].expand(-1, 1, -1, flat.shape[3]))
    square = (shape * shape).sum(3)
    matrix = (flat * shape).sum(3) / torch.where(square == 0, 1, square)
    residual = (flat - matrix[..., None] * shape).abs().max()
    if not bool(residual <= 4 * unit * flat.abs().max()):
        return None
    return matrix, shape[:, 0].reshape(*shape.shape[0:1], shape.shape[2], *blocks.shape[3:])


def _fibres(shape: Tensor, unit: float) -> list[list[Tensor]] | None:
    """``s[g, c, j] = prod_a u_a[g, c, j_a]`` as one vector for each axis and channel, through the largest entry."""
    channels = shape.flatten(0, 1)
    dims = channels.dim() - 1
    fibres: list[list[Tensor]] = [[] for _ in range(dims)]
    for kernel in channels:
        place = torch.unravel_index(kernel.abs().argmax(), kernel.shape)
        pivot = kernel[place]
        for axis in range(dims):
            at = [int(p) for p in place]
            fibre = kernel[(*at[:axis], slice(None), *at[axis + 1 :])]
            fibres[axis].append(fibre / pivot if axis and bool(pivot) else fibre)
    if not bool((_outer(fibres) - channels).abs().max() <= 4 * unit * channels.abs().max()):
        return None
    return fibres


def _outer(vectors: list[list[Tensor]]) -> Tensor:
    """(C, *k): the outer product over the axes, channel by channel."""
    whole = torch.stack(vectors[0])
    for axis in vectors[1:]:
        whole = whole.unsqueeze(-1) * torch.stack(axis).reshape(len(axis), *(1,) * (whole.dim() - 1), -1)
    return whole


def _kernels(stages: list[Tensor], matrix: Tensor, conv: Conv, by_input: bool) -> tuple[list[Tensor], list[int]]:
    """The weights of the stages in order, with their groups."""
    channels = conv.in_channels if by_input else conv.out_channels
    mixer = stages[-1] if by_input else stages[0]
    blocks = mixer.reshape(conv.groups, -1, *mixer.shape[1:])
    blocks = blocks.unsqueeze(1) if by_input else blocks.unsqueeze(2)
    mixing = (matrix.reshape(*matrix.shape, *(1,) * conv.dims) * blocks).flatten(0, 1)
    others = [stage.unsqueeze(1) for stage in (stages[:-1] if by_input else stages[1:])]
    kernels = [*others, mixing] if by_input else [mixing, *others]
    groups = [channels] * len(others)
    return kernels, [*groups, conv.groups] if by_input else [conv.groups, *groups]


def _amplification(
    conv: Conv, stages: list[Tensor], matrix: Tensor, weight: Tensor, by_input: bool, unit: float
) -> float | None:
    """How the absolute stages compose, over the absolute kernel; None where rounding the stages would show."""
    rounded = [stage.to(conv.weight.dtype).double() for stage in stages]
    shape, absolute = _composed(rounded), _composed([stage.abs() for stage in rounded])
    kernel = tuple(slice(0, axis.kernel) for axis in conv.window)

    def spread(per_channel: Tensor) -> Tensor:
        blocks = per_channel[(slice(None), *kernel)].reshape(conv.groups, -1, *conv.weight.shape[2:])
        blocks = blocks.unsqueeze(1) if by_input else blocks.unsqueeze(2)
        return (matrix.reshape(*matrix.shape, *(1,) * conv.dims) * blocks).flatten(0, 1)

    scale = float(weight.abs().max()) or 1.0
    apart = float((spread(shape) - weight).abs().max()) / scale
    beyond = shape.clone()
    beyond[(slice(None), *kernel)] = 0
    apart += float(beyond.abs().max() * matrix.abs().max()) / scale
    ratio = float(spread(absolute).abs().sum()) / (float(weight.abs().sum()) or 1.0)
    good = apart <= 8 * len(stages) * unit and ratio <= _MOST
    return max(ratio, 1.0) if good else None


def _composed(stages: list[Tensor]) -> Tensor:
    """(C, *k) of all stages after each other, by multiplying polynomials of several variables."""
    whole = stages[0]
    for stage in stages[1:]:
        size = [a + b - 1 for a, b in zip(whole.shape[1:], stage.shape[1:], strict=True)]
        out = whole.new_zeros(len(whole), *size)
        for taps in (
            torch.cartesian_prod(*(torch.arange(n) for n in stage.shape[1:])).reshape(-1, stage.dim() - 1).tolist()
        ):
            at = tuple(slice(t, t + n) for t, n in zip(taps, whole.shape[1:], strict=True))
            factor = stage[(slice(None), *taps)].reshape(-1, *(1,) * (whole.dim() - 1))
            out[(slice(None), *at)] += factor * whole
        whole = out
    return whole
