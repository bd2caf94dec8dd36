"""An expression as its equation, in plain text."""

from __future__ import annotations

from convfold.algebra.operators import (
    Affine,
    AvgPool,
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

__all__ = ["text"]


def _size(op: Conv | ConvTranspose | AvgPool) -> str:
    return "x".join(str(axis.kernel) for axis in op.window)


def _conv(op: Conv, inner: str) -> str:
    if not op.window:
        return f"linear({inner})"
    depthwise = op.groups == op.in_channels > 1
    kind = "depthwise" if depthwise else "grouped" if op.groups > 1 else "conv"
    return f"{kind}{_size(op)}({inner})"


def text(op: Op, inner: str = "x") -> str:
    """The equation of `op` applied to `inner`, for example ``BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x)``."""
    if isinstance(op, Chain):
        for part in op.parts:
            inner = text(part, inner)
        return inner
    if isinstance(op, Sum):
        return " + ".join(text(term, inner) for term in op.terms)
    if isinstance(op, Concat):
        return f"[{'; '.join(text(term, inner) for term in op.terms)}]"
    if isinstance(op, Conv):
        return _conv(op, inner)
    if isinstance(op, ConvTranspose):
        return f"convT{_size(op)}({inner})"
    if isinstance(op, AvgPool):
        return f"avg{_size(op)}({inner})"
    if isinstance(op, Norm):
        return f"BN({inner})"
    if isinstance(op, Affine):
        scaled = inner if op.scale is None else f"s*({inner})" if " + " in inner else f"s*{inner}"
        return scaled if op.shift is None else f"{scaled} + b"
    if isinstance(op, Pad):
        return inner if all(pair == (0, 0) for pair in op.pads) else f"pad({inner})"
    if isinstance(op, Select):
        return f"select({inner})"
    if isinstance(op, Flat):
        return text(op.inner, inner)
    assert isinstance(op, Identity)
    return inner
