"""Multiply-accumulates and weights of every form that one convolution may take, in closed form, on plain integers.

Letters: C and N channels in and out, g groups, K taps (``k_1 k_2 ...``), I and S the positions that are read and
written (batch included). Zero padding is counted; weights are without biases. Every law holds for any number of axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from convfold.geometry.counts import out_size
from convfold.geometry.groups import check_groups
from convfold.geometry.window import Axis, Window, point

__all__ = [
    "Closed",
    "Layer",
    "attention",
    "axis_layers",
    "convolution",
    "cp",
    "depthwise",
    "flattened",
    "full_map",
    "full_rank",
    "fully_connected",
    "low_rank",
    "pointwise",
    "restricted_attention",
    "separable",
    "shuffled",
    "spatial",
    "transposed",
    "tucker",
]


class Closed(NamedTuple):
    """Multiply-accumulates and weights."""

    macs: int
    weights: int


@dataclass(frozen=True)
class Layer:
    """A convolution: channels, the window, the sizes of what it reads, groups, and the batch.

    Raises InvalidArgument (from `check_groups`) where `groups` do not divide the channels.
    """

    in_channels: int
    out_channels: int
    window: Window
    size: tuple[int, ...]
    groups: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        check_groups(self.in_channels, self.out_channels, self.groups)

    @property
    def taps(self) -> int:
        """K"""
        return prod(axis.kernel for axis in self.window)

    @property
    def out_size(self) -> tuple[int, ...]:
        """The sizes that it writes."""
        return out_size(self.window, self.size)

    @property
    def read(self) -> int:
        """I, positions that are read."""
        return self.batch * prod(self.size)

    @property
    def written(self) -> int:
        """S, positions that are written."""
        return self.batch * prod(self.out_size)

    @property
    def centres(self) -> Layer:
        """The same layer with the middle tap alone: 1x1, with its stride."""
        return replace(self, window=tuple(Axis(1, axis.stride) for axis in self.window))


def full_rank(layer: Layer) -> int:
    """The rank of one group's kernel as a matrix of output channels by inputs: ``min(N/g, K C/g)``.

    >>> full_rank(Layer(3, 32, (Axis(5),) * 2, (64, 64)))
    32
    """
    return min(layer.out_channels // layer.groups, layer.taps * layer.in_channels // layer.groups)


def axis_layers(layer: Layer, channels: int) -> tuple[Layer, ...]:
    """One depthwise convolution along each axis, one after the other, each with its axis's stride."""
    found, size = list[Layer](), list(layer.size)
    for index in range(len(size)):
        window = tuple(axis if i == index else Axis() for i, axis in enumerate(layer.window))
        one = Layer(channels, channels, window, tuple(size), channels, layer.batch)
        found.append(one)
        size = list(one.out_size)
    return tuple(found)


def convolution(layer: Layer) -> Closed:
    """``S K C N / g`` and ``K C N / g``.

    >>> convolution(Layer(3, 16, (Axis(3, 2, 1, 1, 1),) * 2, (11, 11)))
    Closed(macs=15552, weights=432)
    >>> convolution(Layer(3, 32, (Axis(5, 1, 1, 2, 2),) * 2, (64, 64)))
    Closed(macs=9830400, weights=2400)
    """
    weights = layer.taps * layer.in_channels * layer.out_channels // layer.groups
    return Closed(layer.written * weights, weights)


def transposed(layer: Layer) -> Closed:
    """The transposed convolution of the same window: each position that is read meets each tap, ``I K C N / g``.

    >>> transposed(Layer(3, 16, (Axis(3, 2, 1, 1, 1),) * 2, (6, 6)))
    Closed(macs=15552, weights=432)
    """
    weights = convolution(layer).weights
    return Closed(layer.read * weights, weights)


def depthwise(layer: Layer, multiplier: int = 1) -> Closed:
    """``S K C m`` and ``K C m``: m kernels for each channel, no sum over channels.

    >>> depthwise(Layer(3, 16, (Axis(3, 2, 1, 1, 1),) * 2, (11, 11)))
    Closed(macs=972, weights=27)
    """
    weights = layer.taps * layer.in_channels * multiplier
    return Closed(layer.written * weights, weights)


def pointwise(layer: Layer) -> Closed:
    """``S' C N / g`` and ``C N / g``: one tap, at S' positions as the stride says, without padding.

    >>> pointwise(Layer(3, 16, (Axis(3, 2, 1, 1, 1),) * 2, (11, 11)))
    Closed(macs=1728, weights=48)
    """
    return convolution(layer.centres)


def separable(layer: Layer, multiplier: int = 1) -> Closed:
    """Depthwise, then 1x1: ``S C m (K + N/g)`` and ``C m (K + N/g)``; over a convolution ``m (g/N + 1/K)``.

    Every kernel of this form has, for each channel in, rank at most m as a matrix of taps by outputs
    (MobileNets, arXiv:1704.04861).

    >>> separable(Layer(3, 16, (Axis(3, 2, 1, 1, 1),) * 2, (11, 11)))
    Closed(macs=2700, weights=75)
    """
    weights = layer.in_channels * multiplier * (layer.taps + layer.out_channels // layer.groups)
    return Closed(layer.written * weights, weights)


def flattened(layer: Layer) -> Closed:
    """Across channels, then along each axis: at stride 1 ``S N (C/g + k_1 + k_2 ...)``, a kernel of rank 1 per output.

    Where there are strides, what comes before an axis is computed at all of its positions (arXiv:1412.5474).

    >>> flattened(Layer(3, 16, (Axis(3, 1, 1, 1, 1),) * 2, (11, 11)))
    Closed(macs=17424, weights=144)
    """
    across = convolution(replace(layer, window=point(len(layer.size))))
    along = [convolution(one) for one in axis_layers(layer, layer.out_channels)]
    return Closed(across.macs + sum(c.macs for c in along), across.weights + sum(c.weights for c in along))


def spatial(layer: Layer, rank: int) -> Closed:
    """``k_1`` along the first axis to r channels a group, then along the others: ``S r (k_1 C + k_2 N)`` for two axes.

    With three axes a step of ``r r k_2`` lies between (arXiv:1405.3866).

    >>> spatial(Layer(8, 8, (Axis(3, 1, 1, 1, 1),) * 2, (10, 10)), 8)
    Closed(macs=38400, weights=384)
    """
    dims, groups, size = len(layer.size), layer.groups, layer.size
    macs = weights = 0
    for index in range(dims):
        reads = layer.in_channels if index == 0 else rank * groups
        writes = layer.out_channels if index == dims - 1 else rank * groups
        window = tuple(axis if i == index else Axis() for i, axis in enumerate(layer.window))
        one = Layer(reads, writes, window, size, groups, layer.batch)
        macs, weights, size = macs + convolution(one).macs, weights + convolution(one).weights, one.out_size
    return Closed(macs, weights)


def low_rank(layer: Layer, rank: int) -> Closed:
    """To r channels a group, then 1x1: ``S r (K C + N)`` and ``r (K C + N)``.

    >>> low_rank(Layer(8, 8, (Axis(3, 1, 1, 1, 1),) * 2, (10, 10)), 2)
    Closed(macs=16000, weights=160)
    """
    weights = rank * (layer.taps * layer.in_channels + layer.out_channels)
    return Closed(layer.written * weights, weights)


def tucker(layer: Layer, first: int, second: int) -> Closed:
    """1x1 to r_1, the window to r_2, 1x1: ``I C r_1 + S g K r_1 r_2 + S r_2 N`` (arXiv:1511.06530), ranks per group.

    >>> tucker(Layer(8, 8, (Axis(3, 1, 1, 1, 1),) * 2, (10, 10)), 2, 4)
    Closed(macs=12000, weights=120)
    """
    steps = (
        (layer.read, layer.in_channels * first),
        (layer.written, layer.groups * layer.taps * first * second),
        (layer.written, second * layer.out_channels),
    )
    return Closed(sum(at * weights for at, weights in steps), sum(weights for _, weights in steps))


def cp(layer: Layer, rank: int) -> Closed:
    """1x1 to r channels a group, along each axis, 1x1: at stride 1 ``S r (C + g (k_1 + k_2 ...) + N)``.

    (arXiv:1412.6553.)

    >>> cp(Layer(8, 8, (Axis(3, 1, 1, 1, 1),) * 2, (10, 10)), 4)
    Closed(macs=8800, weights=88)
    """
    inner = rank * layer.groups
    along = [convolution(one) for one in axis_layers(layer, inner)]
    macs = rank * (layer.read * layer.in_channels + layer.written * layer.out_channels) + sum(c.macs for c in along)
    return Closed(macs, rank * (layer.in_channels + layer.out_channels) + sum(c.weights for c in along))


def shuffled(layer: Layer, groups: int) -> Closed:
    """Grouped 1x1, shuffle, depthwise, grouped 1x1: ``I C N/h + S N K + S N N/h`` (ShuffleNet, arXiv:1707.01083).

    >>> shuffled(Layer(8, 8, (Axis(3, 1, 1, 1, 1),) * 2, (10, 10)), 4)
    Closed(macs=10400, weights=104)
    """
    check_groups(layer.in_channels, layer.out_channels, groups)
    n = layer.out_channels
    steps = (
        (layer.read, layer.in_channels * n // groups),
        (layer.written, n * layer.taps),
        (layer.written, n * n // groups),
    )
    return Closed(sum(at * weights for at, weights in steps), sum(weights for _, weights in steps))


def fully_connected(layer: Layer) -> Closed:
    """Every input to every output, no weight shared: ``C I' N S'`` weights for the positions of one sample.

    >>> fully_connected(Layer(3, 32, (Axis(5, 1, 1, 2, 2),) * 2, (64, 64)))
    Closed(macs=1610612736, weights=1610612736)
    """
    weights = layer.in_channels * prod(layer.size) * layer.out_channels * prod(layer.out_size)
    return Closed(layer.batch * weights, weights)


def full_map(layer: Layer) -> Closed:
    """A kernel as large as the map, which writes one position: ``I C N`` and, for one sample, the same.

    >>> full_map(Layer(3, 32, (Axis(5, 1, 1, 2, 2),) * 2, (64, 64)))
    Closed(macs=393216, weights=393216)
    """
    weights = prod(layer.size) * layer.in_channels * layer.out_channels
    return Closed(layer.batch * weights, weights)


def attention(layer: Layer) -> Closed:
    """Queries at S', keys and values at I' positions of N channels: ``C N (S + 2 I) + 2 N S I'`` and ``3 C N``.

    One head, without a projection behind it (arXiv:1706.03762).

    >>> attention(Layer(3, 32, (Axis(5, 1, 1, 2, 2),) * 2, (64, 64)))
    Closed(macs=1074921472, weights=288)
    """
    c, n = layer.in_channels, layer.out_channels
    met = 2 * n * layer.written * prod(layer.size)
    return Closed(c * n * (layer.written + 2 * layer.read) + met, 3 * c * n)


def restricted_attention(layer: Layer) -> Closed:
    """The same, each query meeting the K positions of its window alone: ``C N (S + 2 I) + 2 N S K`` and ``3 C N``.

    (arXiv:1906.05909, without its relative positions.)

    >>> restricted_attention(Layer(3, 32, (Axis(5, 1, 1, 2, 2),) * 2, (64, 64)))
    Closed(macs=7733248, weights=288)
    """
    c, n = layer.in_channels, layer.out_channels
    met = 2 * n * layer.written * layer.taps
    return Closed(c * n * (layer.written + 2 * layer.read) + met, 3 * c * n)
