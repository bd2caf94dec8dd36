"""The window of a convolution, one `Axis` per spatial dimension, and how windows compose and merge.

Along one axis a convolution computes ``out[i] = sum_j K[j] * in[stride*i - lo + dilation*j]``; whatever
it reads outside the input is padding. Everything below is exact for every input size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from convfold.errors import InvalidArgument, NotFoldable, Refusal

__all__ = [
    "Axis",
    "Placement",
    "Window",
    "chain",
    "chain_mode",
    "conv_window",
    "embed",
    "has_padding",
    "point",
    "reads_past_border",
    "union",
]


@dataclass(frozen=True)
class Axis:
    """One axis of a window: kernel taps, stride, dilation, and padding before (`lo`) and after (`hi`).

    Negative padding crops. A window is legal for an input of n when ``n + lo + hi >= span``.
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    lo: int = 0
    hi: int = 0

    @property
    def span(self) -> int:
        """Input positions from the first tap to the last, both counted."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def slack(self) -> int:
        """``lo + hi - span``: two windows of one stride give one output size for every input iff it is equal."""
        return self.lo + self.hi - self.span

    def shifted(self, lo: int, hi: int) -> Axis:
        """The same taps with `lo` and `hi` more padding."""
        return Axis(self.kernel, self.stride, self.dilation, self.lo + lo, self.hi + hi)


Window = tuple[Axis, ...]


@dataclass(frozen=True)
class Placement:
    """Where a kernel's taps land on one axis of a larger one: tap j at ``start + step*j`` of `size`."""

    start: int
    step: int
    size: int


def point(dims: int) -> Window:
    """The window of a 1x1 convolution."""
    return (Axis(),) * dims


def _tuple(value: object, dims: int, name: str, least: int) -> tuple[int, ...]:
    values = (value,) * dims if isinstance(value, int) else value
    if not isinstance(values, (tuple, list)) or not all(isinstance(v, int) for v in values):
        raise InvalidArgument(
            f"{name} is neither an integer nor a tuple of integers", got=repr(value), expected=f"{dims} integers"
        )
    if len(values) == 1:
        values = tuple(values) * dims
    if len(values) != dims:
        raise InvalidArgument(f"{name} has the wrong length", got=repr(value), expected=f"{dims} integers")
    if any(v < least for v in values):
        raise InvalidArgument(f"{name} is too small", got=repr(value), expected=f"at least {least} each")
    return tuple(values)


def conv_window(
    dims: int, kernel_size: object, stride: object = 1, padding: object = 0, dilation: object = 1
) -> Window:
    """The window that ``nn.Conv{dims}d`` gives these arguments, ``padding="same"`` and ``"valid"`` included.

    Raises InvalidArgument for wrong lengths, values below their least, and "same" with a stride.

    >>> conv_window(1, 4, padding="same")
    (Axis(kernel=4, stride=1, dilation=1, lo=1, hi=2),)
    """
    kernels = _tuple(kernel_size, dims, "kernel_size", 1)
    strides = _tuple(stride, dims, "stride", 1)
    dilations = _tuple(dilation, dims, "dilation", 1)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise InvalidArgument("padding is unknown", got=repr(padding), expected="'same', 'valid' or integers")
        if padding == "same" and any(s != 1 for s in strides):
            raise InvalidArgument(
                "padding='same' has no meaning with a stride", got=f"stride {strides}", expected="stride 1"
            )
        totals = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernels, dilations, strict=True)]
        pads = [(total // 2, total - total // 2) for total in totals]
    else:
        pads = [(p, p) for p in _tuple(padding, dims, "padding", 0)]
    return tuple(Axis(k, s, d, lo, hi) for k, s, d, (lo, hi) in zip(kernels, strides, dilations, pads, strict=True))


def has_padding(window: Window) -> bool:
    """Whether any tap can fall outside the input."""
    return any(axis.lo > 0 or axis.hi > 0 for axis in window)


def embed(axis: Axis, kernel: int) -> Axis:
    """The axis of a `kernel`-tap window centred in `axis`: centre tap on centre tap, equal output size.

    With ``c = (k-1)//2`` taps before the centre, a kernel of k' taps starts ``d*(c - c')`` later and ends
    accordingly, which needs asymmetric padding when k - k' is odd; padding may turn negative (a crop).
    """
    before = axis.dilation * ((axis.kernel - 1) // 2 - (kernel - 1) // 2)
    after = axis.dilation * (axis.kernel - kernel) - before
    dilation = axis.dilation if kernel > 1 else 1
    return Axis(kernel, axis.stride, dilation, axis.lo - before, axis.hi - after)


def _chain_axis(u: Axis, t: Axis) -> Axis:
    # A one-tap kernel has no dilation: 0 is the neutral element of gcd.
    outer = u.stride * t.dilation if t.kernel > 1 else 0
    inner = u.dilation if u.kernel > 1 else 0
    dilation = gcd(outer, inner) or 1
    kernel = (outer * (t.kernel - 1) + inner * (u.kernel - 1)) // dilation + 1
    stride = u.stride * t.stride
    lo = u.lo + u.stride * t.lo
    slack = u.slack + u.stride * (1 + t.slack)
    return Axis(kernel, stride, dilation, lo, slack + dilation * (kernel - 1) + 1 - lo)


def chain(first: Window, second: Window) -> Window:
    """The window of `second` after `first`, borders aside (see `reads_past_border`).

    Strides multiply; offsets add as ``lo = lo_1 + s_1*lo_2``; the taps are the sumset of
    ``d_1*[0, k_1)`` and ``s_1*d_2*[0, k_2)``, on the lattice of their greatest common divisor.
    """
    return tuple(_chain_axis(u, t) for u, t in zip(first, second, strict=True))


def _nearest_before(axis: Axis) -> int | None:
    """How far before the input the tap lies that reads nearest to it from outside; None when none does."""
    firsts = [axis.lo - axis.dilation * j for j in range(axis.kernel)]
    distances = [(first - 1) % axis.stride + 1 for first in firsts if first > 0]
    return min(distances) if distances else None


def reads_past_border(first: Window, second: Window) -> bool:
    """Whether `second`'s zero padding can replace values that `first`, extended, would not have as zero.

    Zero padding after `first` is harmless iff `first` is zero there by itself, all its taps outside the
    input: ``s_1*q + lo_1 >= span_1`` at the nearest position -q that `second` reads before, and
    ``hi_1 >= span_1 - 1`` if it reads any after. So a one-tap `first` without a crop is harmless.
    """
    for u, t in zip(first, second, strict=True):
        nearest = _nearest_before(t)
        if nearest is not None and u.stride * nearest + u.lo < u.span:
            return True
        if t.hi > 0 and u.hi < u.span - 1:
            return True
    return False


def chain_mode(first: Window, first_mode: str, second: Window, second_mode: str) -> str:
    """The padding mode of `second` after `first`; the mode of a window without padding does not count.

    Raises NotFoldable where the padding in between is not what `first`, extended, would give: for zeros see
    `reads_past_border`; circular padding commutes with a `first` of stride 1 that keeps the size; any other
    mode only with a single tap of stride 1 on the axes that are padded.
    """
    padded = has_padding(first)
    if not has_padding(second):
        return first_mode if padded else "zeros"
    if second_mode == "zeros":
        if reads_past_border(first, second) or (padded and first_mode != "zeros"):
            raise NotFoldable(
                Refusal(
                    "chain",
                    "the second convolution pads with zeros where the first one's response is not zero",
                    hint="Put all padding on the first convolution.",
                )
            )
        return "zeros"
    touched = [u for u, t in zip(first, second, strict=True) if t.lo > 0 or t.hi > 0]
    if second_mode == "circular":
        commutes = all(u.stride == 1 and u.slack == -1 for u in touched)
    else:
        commutes = all((u.kernel, u.stride, u.lo, u.hi) == (1, 1, 0, 0) for u in touched)
    if not commutes or (padded and first_mode != second_mode):
        raise NotFoldable(
            Refusal(
                "chain",
                f"{second_mode} padding between two convolutions does not commute with the first",
                hint="Only a 1x1 convolution of stride 1 may stand before it.",
            )
        )
    return second_mode


def _union_axis(axes: tuple[Axis, ...]) -> tuple[Axis, tuple[Placement, ...]]:
    stride, slack = axes[0].stride, axes[0].slack
    if any(axis.stride != stride for axis in axes):
        strides = sorted({axis.stride for axis in axes})
        raise NotFoldable(Refusal("sum", f"the branches have different strides {strides}"))
    if any(axis.slack != slack for axis in axes):
        raise NotFoldable(
            Refusal("sum", "the branches give different output sizes", hint="Match padding to kernel size.")
        )
    start = min(-axis.lo for axis in axes)
    lattice = 0
    for axis in axes:
        lattice = gcd(lattice, -axis.lo - start, axis.dilation if axis.kernel > 1 else 0)
    lattice = lattice or 1
    end = max(-axis.lo + axis.span for axis in axes)
    size = (end - start - 1) // lattice + 1
    merged = Axis(size, stride, lattice, -start, slack + (end - start) + start)
    placements = tuple(
        Placement((-axis.lo - start) // lattice, axis.dilation // lattice if axis.kernel > 1 else 1, size)
        for axis in axes
    )
    return merged, placements


def union(windows: tuple[Window, ...]) -> tuple[Window, tuple[tuple[Placement, ...], ...]]:
    """The smallest window that holds all `windows`, and per window where its taps land on each axis.

    Raises NotFoldable when strides or output sizes differ.
    """
    merged: list[Axis] = []
    placed: list[list[Placement]] = [[] for _ in windows]
    for axes in zip(*windows, strict=True):
        axis, placements = _union_axis(axes)
        merged.append(axis)
        for row, placement in zip(placed, placements, strict=True):
            row.append(placement)
    return tuple(merged), tuple(tuple(row) for row in placed)
