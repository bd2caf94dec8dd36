"""Hypothesis strategies: windows, convolutions, and expression trees over the whole grammar.

A tree is drawn from the top down. Every node is told its channels and its class: per axis the stride and the
slack that its window must have, ``out = floor((n + slack) / stride) + 1``. All branches of a node share a
class, so sizes agree by construction and no draw is thrown away for them.
"""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from convfold.algebra import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Identity,
    Op,
    Pad,
    Select,
    Sum,
    chain_of,
)
from convfold.geometry import Axis, Window, out_size, point, transposed_size
from support.make import Make

__all__ = ["axes", "fits", "sizes_for", "transposed_trees", "trees", "windows"]

MODES = ("zeros", "reflect", "replicate", "circular")
Class = tuple[tuple[int, int], ...]


@st.composite
def axes(draw: DrawFn, max_pad: int = 2, crop: bool = True) -> Axis:
    """Any axis with up to three taps, stride and dilation up to two and three, padding and crops apart."""
    least = -1 if crop else 0
    pad = st.integers(least, max_pad)
    return Axis(draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(pad), draw(pad))


def windows(dims: int, **options: int) -> st.SearchStrategy[Window]:
    return st.tuples(*(axes(**options) for _ in range(dims)))


def _divisors(*numbers: int) -> list[int]:
    return [g for g in range(1, min(numbers) + 1) if all(n % g == 0 for n in numbers)]


class _Grower:
    def __init__(self, draw: DrawFn, dims: int, mixed: bool) -> None:
        self.draw, self.dims = draw, dims
        self.make = Make(draw(st.integers(0, 2**16)))
        self.mode = draw(st.sampled_from(MODES))
        self.mixed = mixed
        self.bias = draw(st.booleans())

    def pick(self, options: list[str]) -> str:
        return self.draw(st.sampled_from(options))

    def padding(self) -> str:
        return self.draw(st.sampled_from(MODES)) if self.mixed else self.mode

    def window(self, kind: Class) -> Window:
        axes_: list[Axis] = []
        for stride, slack in kind:
            kernel, dilation = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
            total = slack + dilation * (kernel - 1) + 1
            low = self.draw(st.sampled_from([total // 2, total - total // 2, 0, total]))
            axes_.append(Axis(kernel, stride, dilation, low, total - low))
        return tuple(axes_)

    def conv(self, inputs: int, outputs: int, kind: Class) -> Conv:
        groups = self.draw(st.sampled_from(_divisors(inputs, outputs)))
        biased = self.bias and self.draw(st.booleans())
        return self.make.conv(inputs, outputs, self.window(kind), groups, biased, self.padding())

    def per_channel(self, channels: int) -> Op:
        chosen = self.pick(["norm", "affine", "identity"])
        if chosen == "identity":
            return Identity(channels, self.dims)
        if chosen == "norm":
            return self.make.norm(channels, self.dims)
        scale = self.draw(st.booleans())
        return self.make.affine(channels, self.dims, scale, self.bias or not scale)

    def leaf(self, inputs: int, outputs: int, kind: Class) -> Op:
        options = ["conv"] * 3
        still = all(axis == (1, -1) for axis in kind)
        if inputs == outputs:
            options += ["pool"] * (self.dims > 0) + ["pad"] * all(stride == 1 for stride, _ in kind)
        if still:
            options += ["select", "linear"] + ["per channel"] * 3 * (inputs == outputs)
        chosen = self.pick(options)
        if chosen == "pool":
            divisor = self.draw(st.sampled_from([None, 5]))
            return AvgPool(inputs, self.window(kind), self.padding(), divisor=divisor)
        if chosen == "pad":
            lows = [self.draw(st.integers(-1, 1)) for _ in kind]
            pads = tuple((low, slack + 1 - low) for low, (_, slack) in zip(lows, kind, strict=True))
            return Pad(inputs, pads, self.padding())
        if chosen == "select":
            index = tuple(self.draw(st.integers(0, inputs - 1)) for _ in range(outputs))
            return Select(index, inputs, self.dims)
        if chosen == "linear":
            return self.make.conv(inputs, outputs, point(self.dims), bias=self.bias)
        if chosen == "per channel":
            return self.per_channel(inputs)
        return self.conv(inputs, outputs, kind)

    def tree(self, inputs: int, outputs: int, kind: Class, depth: int) -> Op:
        shape = self.pick(["leaf", "chain", "chain", "sum", "concat", "after", "before"]) if depth else "leaf"
        if shape == "after":
            return self.tree(inputs, outputs, kind, depth - 1) >> self.per_channel(outputs)
        if shape == "before":
            return self.per_channel(inputs) >> self.tree(inputs, outputs, kind, depth - 1)
        if shape == "chain":
            return self.chain(inputs, outputs, kind, depth - 1)
        if shape == "sum":
            count = self.draw(st.integers(2, 3))
            return Sum(tuple(self.tree(inputs, outputs, kind, depth - 1) for _ in range(count)))
        if shape == "concat" and outputs > 1:
            return self.concat(inputs, outputs, kind, depth - 1)
        return self.leaf(inputs, outputs, kind)

    def chain(self, inputs: int, outputs: int, kind: Class, depth: int) -> Op:
        middle = self.draw(st.sampled_from([1, 2, 3, 4, 6]))
        first, second = [], []
        for stride, slack in kind:
            stride1 = self.draw(st.sampled_from([s for s in (1, 2) if stride % s == 0]))
            slack2 = self.draw(st.sampled_from([-1, -1, -3, -2, 1]))
            first.append((stride1, slack - stride1 * (1 + slack2)))
            second.append((stride // stride1, slack2))
        return self.tree(inputs, middle, tuple(first), depth) >> self.tree(middle, outputs, tuple(second), depth)

    def concat(self, inputs: int, outputs: int, kind: Class, depth: int) -> Op:
        if inputs % 2 == outputs % 2 == 0 and self.draw(st.booleans()):
            half = inputs // 2
            blocks = [Select.block(start, start + half, inputs, self.dims) for start in (0, half)]
            return Concat(tuple(b >> self.tree(half, outputs // 2, kind, depth) for b in blocks))
        cut = self.draw(st.integers(1, outputs - 1))
        return Concat((self.tree(inputs, cut, kind, depth), self.tree(inputs, outputs - cut, kind, depth)))


@st.composite
def trees(draw: DrawFn, dims: int, depth: int = 2, mixed: bool = False) -> Op:
    """An expression with chains, sums, concatenations and every kind of leaf; `mixed` padding modes or one."""
    grower = _Grower(draw, dims, mixed)
    kind: Class = ((1, -1),) * dims
    if draw(st.booleans()):
        kind = tuple((draw(st.integers(1, 2)), draw(st.sampled_from([-1, -2, -3, 0]))) for _ in range(dims))
    channels = st.sampled_from([1, 2, 4, 6] if dims < 3 else [1, 2])
    return grower.tree(draw(channels), draw(channels), kind, depth)


@st.composite
def transposed_trees(draw: DrawFn, dims: int) -> Op:
    """Per-channel maps and 1x1 convolutions around one transposed convolution, or a sum of two such chains."""
    grower = _Grower(draw, dims, mixed=False)
    inputs, outputs = draw(st.sampled_from([2, 4])), draw(st.sampled_from([2, 4, 6]))
    low, high, stride = draw(st.integers(0, 1)), draw(st.integers(-1, 1)), draw(st.integers(1, 3))

    def branch() -> Op:
        middle, wide = draw(st.sampled_from([2, 4])), draw(st.sampled_from([2, 4, 6]))
        kernel = draw(st.integers(1, 3))
        window = (Axis(kernel, stride, 1, low, high + kernel - 2),) * dims
        groups = draw(st.sampled_from(_divisors(middle, wide)))
        before = grower.make.affine(inputs, dims, shift=False) if draw(st.booleans()) else None
        point1 = grower.make.conv(inputs, middle, point(dims), draw(st.sampled_from([1, 2])), bias=False)
        point2 = grower.make.conv(wide, outputs, point(dims), draw(st.sampled_from([1, 2])))
        norm = grower.make.norm(outputs, dims) if draw(st.booleans()) else None
        return chain_of(before, point1, grower.make.transposed(middle, wide, window, groups, grower.bias), point2, norm)

    return branch() + branch() if draw(st.booleans()) else branch()


def _reads(window: Window, mode: str, size: tuple[int, ...]) -> None:
    assume(all(n + axis.slack >= 0 for axis, n in zip(window, size, strict=True)))
    limit = {"zeros": None, "replicate": None, "reflect": -1, "circular": 0}[mode]
    if limit is not None:
        assume(all(max(a.lo, a.hi) <= n + limit for a, n in zip(window, size, strict=True)))


def fits(op: Op, size: tuple[int, ...]) -> tuple[int, ...]:
    """The output size; tells hypothesis to draw again where torch itself takes no map this small."""
    if isinstance(op, Chain):
        for part in op.parts:
            size = fits(part, size)
        return size
    if isinstance(op, (Sum, Concat)):
        # Every term is asked, because any of them may be too large for the map.
        sizes = [fits(term, size) for term in op.terms]
        return sizes[0]
    if isinstance(op, ConvTranspose):
        size = tuple(transposed_size(axis, n) for axis, n in zip(op.window, size, strict=True))
        assume(all(n > 0 for n in size))
        return size
    if isinstance(op, (Conv, AvgPool, Pad)):
        mode = op.mode if isinstance(op, Pad) else op.padding_mode
        _reads(op.window, mode, size)
        return out_size(op.window, size)
    assert isinstance(op, (Affine, Identity, Select)) or type(op).__name__ == "Norm"
    return size


def sizes_for(dims: int, least: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Spatial sizes, odd and even, not square."""
    return st.tuples(*(st.integers(least, least + 2) for _ in range(dims)))
