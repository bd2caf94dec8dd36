"""What operators that slide or resample along spatial axes read: convolution, pooling, resizing, padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

from convfold.cost.receptive.call import Call, Reads
from convfold.cost.receptive.steps import Step, in_turn, mixed, resample, window

__all__ = ["adaptive_pool", "convolution", "pad", "pixel_shuffle", "pool", "resize"]


def _sizes(value: Any, axes: int) -> Sequence[int]:
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    return listed * axes if len(listed) == 1 else listed


def convolution(call: Call) -> Reads:
    x, weight = call["input"], call["weight"]
    axes = weight.dim() - 2
    stride, padding, dilation = (_sizes(call[name], axes) for name in ("stride", "padding", "dilation"))
    depthwise = call["groups"] == x.shape[1] == call.out.shape[1]
    steps: list[Step] = [] if depthwise else [mixed(x.shape, [1])]
    for axis, (s, p, d) in enumerate(zip(stride, padding, dilation, strict=True)):
        kernel, dim = int(weight.shape[2 + axis]), 2 + axis
        if call["transposed"]:
            steps.append(resample(dim, s, 1, transposed_taps(kernel, s, p, d)))
        else:
            steps.append(window(dim, s, (d * t - p for t in range(kernel))))
    # A kernel or a bias computed from the input brings whatever that depended on to every position.
    others = [t for t in (weight, call["bias"]) if t is not None]
    return [(x, in_turn(steps)), *((t, mixed(t.shape, range(t.dim()))) for t in others)]


def pool(call: Call) -> Reads:
    x = call.x
    axes = int(call.name.split("pool")[1][0])
    kernel = _sizes(call["kernel_size"], axes)
    stride = _sizes(call["stride"] or kernel, axes)
    padding, dilation = _sizes(call["padding"], axes), _sizes(call.named.get("dilation", 1), axes)
    rows = enumerate(zip(kernel, stride, padding, dilation, strict=True), x.dim() - axes)
    return [(x, in_turn(window(dim, s, (d * t - p for t in range(k))) for dim, (k, s, p, d) in rows))]


def adaptive_pool(call: Call) -> Reads:
    x, axes = call.x, len(call["output_size"])
    steps = []
    for dim in range(x.dim() - axes, x.dim()):
        size, out = int(x.shape[dim]), int(call.out.shape[dim])
        ratio = Fraction(size, out)
        plain = mixed(x.shape, [dim]) if out == 1 else None
        steps.append(plain or resample(dim, ratio.denominator, ratio.numerator, adaptive(size, out)))
    return [(x, in_turn(steps))]


def resize(kind: str, call: Call) -> Reads:
    x = call.x
    factors = call.named.get("scale_factors")
    scales = [call.named[name] for name in ("scales", "scales_d", "scales_h", "scales_w") if name in call.named]
    known = list(factors or scales) or [None] * (x.dim() - 2)
    corners = bool(call.named.get("align_corners"))
    steps = []
    for axis, scale in enumerate(known):
        size, out = int(x.shape[2 + axis]), int(call.out.shape[2 + axis])
        ratio = Fraction(size, out) if not scale else 1 / Fraction(scale).limit_denominator(1024)
        if corners:
            ratio = Fraction(size - 1, max(1, out - 1))
        if ratio:
            taps = resized(kind, ratio, align_corners=corners)
            steps.append(resample(2 + axis, ratio.denominator, ratio.numerator, taps))
    return [(x, in_turn(steps))]


def pad(call: Call) -> Reads:
    x, pads = call.x, call["pad" if "pad" in call.named else "padding"]
    ends = [(x.dim() - 1 - i, int(lo)) for i, lo in enumerate(pads[::2])]
    return [(x, in_turn(window(dim, 1, [-lo]) for dim, lo in ends))]


def pixel_shuffle(call: Call) -> Reads:
    """Pixel shuffle (..., C*r*r, H, W) -> (..., C, H*r, W*r), and back."""
    x, out = call.x, call.out
    steps = []
    for dim in (x.dim() - 2, x.dim() - 1):
        up = Fraction(int(out.shape[dim]), int(x.shape[dim]))
        if up >= 1:
            r = int(up)
            steps.append(resample(dim, r, 1, resized("nearest", 1 / up, align_corners=False)))
        else:
            r = int(1 / up)
            steps.append(window(dim, r, range(r)))
    return [(x, in_turn([mixed(x.shape, [x.dim() - 3]), *steps]))]


def transposed_taps(kernel: int, stride: int, pad: int, dilation: int) -> Callable[[int], Iterable[int]]:
    """Which input elements output i of a transposed convolution reads: ``j * stride = i + pad - dilation * t``."""

    def taps(i: int) -> Iterable[int]:
        reached = (i + pad - dilation * t for t in range(kernel))
        return [r // stride for r in reached if r % stride == 0]

    return taps


def adaptive(size: int, out: int) -> Callable[[int], Iterable[int]]:
    """Adaptive pooling: output i reads from ``floor(i * size / out)`` to ``ceil((i + 1) * size / out) - 1``."""
    return lambda i: range(i * size // out, -(-(i + 1) * size // out))


def resized(kind: str, ratio: Fraction, *, align_corners: bool) -> Callable[[int], Iterable[int]]:
    """Which elements output i of a resizing reads; `ratio` is the distance of neighbours in the source.

    Nearest: ``floor(i * ratio)``, or ``floor((i + 1/2) * ratio)`` when exact. Linear and cubic read around
    ``(i + 1/2) * ratio - 1/2``, or ``i * ratio`` with aligned corners, what has weight zero left out. With
    antialiasing the reach is widened by the ratio when it is above one.
    """
    if kind == "nearest":
        return lambda i: [floor(i * ratio)]
    if kind == "nearest-exact":
        return lambda i: [floor((i + Fraction(1, 2)) * ratio)]
    reach = Fraction(2 if "cubic" in kind else 1)
    if kind.endswith("_aa"):
        reach *= max(ratio, Fraction(1))

    def taps(i: int) -> Iterable[int]:
        at = i * ratio if align_corners else (i + Fraction(1, 2)) * ratio - Fraction(1, 2)
        if at.denominator == 1 and not kind.endswith("_aa"):
            return [int(at)]
        return [j for j in range(floor(at - reach), ceil(at + reach) + 1) if abs(j - at) < reach]

    return taps
