"""Layers of random ONNX graphs, in all the ways in which an operator set spells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from support.onnx_random_builder import WIDEST, Builder, Rejected

__all__ = [
    "classifier", "clipped", "conv", "cut", "matmul", "nonlinear", "norm", "padded", "pooled", "reduced", "reshaped",
    "resized", "scaled", "split", "squeezed", "summed", "transposed",
]  # fmt: skip


def _bias(b: Builder, count: int) -> str:
    """A bias, now and then of one that is shared."""
    used = [name for name, array in b.initialisers.items() if array.shape == (count,) and array.dtype == b.dtype]
    return b.rng.choice(used) if used and b.chance(0.15) else b.constant(0.5 * b.normal(count), "bias")


def _weight(b: Builder, *shape: int, fan: int) -> str:
    used = [name for name, array in b.initialisers.items() if array.shape == shape and array.dtype == b.dtype]
    if used and b.chance(0.15):
        return b.rng.choice(used)
    return b.constant((b.normal(*shape) * max(fan, 1) ** -0.5).astype(b.dtype), "weight")


def _same(b: Builder, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    return [r // 2 for r in reach] + [r - r // 2 for r in reach]


def conv(
    b: Builder,
    x: str,
    out: int | None = None,
    kernel: int | None = None,
    stride: int = 1,
    pads: list[int] | None = None,
) -> str:
    """A convolution, of random kind where nothing is asked for."""
    rng, count, dims = b.rng, b.channels(x), b.dims
    if b.layouts[x] != "map":
        raise Rejected("no map")
    free = kernel is None
    ks = [rng.choice([1, 1, 2, 3, 3])] * dims if free else [int(kernel or 1)] * dims
    if free and b.chance(0.3):
        ks = [rng.choice([1, 2, 3, 4]) for _ in range(dims)]
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    groups = rng.choice([1, 1, 1, count, rng.choice(divisors)]) if free else 1
    if not free and out is not None and out % count == 0 and b.chance(0.2):
        groups = count
    if out is None:
        out = groups * rng.randint(1, max(1, min(8, WIDEST) // groups))
    attributes: dict[str, Any] = {}
    if b.chance(0.7):
        attributes["kernel_shape"] = ks
    if groups > 1 or b.chance(0.5):
        attributes["group"] = groups
    strides = [rng.choice([1, 1, 1, 2]) for _ in range(dims)] if free else [stride] * dims
    dilations = [rng.choice([1, 1, 1, 2]) for _ in range(dims)] if free else [1] * dims
    if any(s > 1 for s in strides) or b.chance(0.5):
        attributes["strides"] = strides
    if any(d > 1 for d in dilations) or b.chance(0.5):
        attributes["dilations"] = dilations
    label = "depthwise" if groups == count > 1 else "grouped" if groups > 1 else "dense"
    if pads is not None:
        attributes["pads"] = pads
    elif b.chance(0.25):
        attributes["auto_pad"] = rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        label = attributes["auto_pad"]
    else:
        same = _same(b, ks, dilations)
        attributes["pads"] = rng.choice([same, same, [0] * 2 * dims, [rng.randint(0, k) for k in ks * 2]])
    weight = _weight(b, out, count // groups, *ks, fan=count // groups * int(np.prod(ks)))
    inputs = [x, weight, _bias(b, out)] if b.chance(0.5) else [x, weight]
    return b.one("Conv", inputs, layout="map", label=f"Conv {label} {dims}d", **attributes)


def transposed(b: Builder, x: str) -> str:
    rng, count, dims = b.rng, b.channels(x), b.dims
    if b.layouts[x] != "map":
        raise Rejected("no map")
    groups = rng.choice([1, 1, rng.choice([d for d in range(1, count + 1) if count % d == 0])])
    out = rng.randint(1, 4)
    ks, strides = [rng.choice([1, 2, 3, 4]) for _ in range(dims)], [rng.choice([1, 2]) for _ in range(dims)]
    attributes: dict[str, Any] = {"strides": strides, "group": groups, "kernel_shape": ks}
    kind = rng.choice(["pads", "pads", "none", "auto", "shape"])
    if kind == "pads":
        attributes["pads"] = [rng.randint(0, k // 2) for k in ks * 2]
        attributes["output_padding"] = [rng.randint(0, s - 1) for s in strides]
    elif kind == "auto":
        attributes["auto_pad"] = rng.choice(["VALID", "SAME_UPPER", "SAME_LOWER"])
    elif kind == "shape" and not b.open:
        attributes["output_shape"] = [n * s for n, s in zip(b.shape(x)[2:], strides, strict=True)]
    weight = _weight(b, count, out, *ks, fan=count // groups * int(np.prod(ks)))
    inputs = [x, weight, _bias(b, out * groups)] if b.chance(0.5) else [x, weight]
    return b.one("ConvTranspose", inputs, layout="map", label=f"ConvTranspose {kind}", **attributes)


def norm(b: Builder, x: str) -> str:
    if b.layouts[x] not in ("map", "vector"):
        raise Rejected("channels are last")
    count = b.channels(x)
    parts = [b.factor(count), 0.5 * b.normal(count), 0.5 * b.normal(count), np.abs(b.factor(count))]
    names = [b.constant(part.astype(b.dtype), base) for part, base in zip(parts, "sbmv", strict=True)]
    attributes = {"epsilon": b.rng.choice([1e-5, 1e-3])} if b.chance(0.7) else {}
    if b.chance(0.3):
        attributes["momentum"] = 0.9
    return b.one("BatchNormalization", [x, *names], **attributes)


def scaled(b: Builder, x: str) -> str:
    """Add, Sub, Mul or Div of a constant, on either side: a number, one number per channel, or something else."""
    rng, shape, count = b.rng, b.shape(x), b.channels(x)
    axis = 1 if b.layouts[x] in ("map", "vector") else len(shape) - 1
    behind = (1,) * (len(shape) - axis - 1)
    forms = [(), (1,), (count, *behind), (count, *behind), (1, count, *behind), (1,) * len(shape)]
    if not b.open:
        forms += [shape[1:], (1,) * (len(shape) - 1) + (shape[-1],)]
    form = rng.choice(forms)
    op = rng.choice(["Add", "Add", "Mul", "Mul", "Sub", "Div"])
    array = b.factor(*form) if op in ("Mul", "Div") else b.normal(*form)
    held = b.constant(np.asarray(array, b.dtype), "k")
    left = b.chance(0.35) and op != "Div"
    label = f"{op} {'const, x' if left else 'x, const'}"
    return b.one(op, [held, x] if left else [x, held], layout=b.layouts[x], label=label)


def nonlinear(b: Builder, x: str) -> str:
    kinds = ["Relu"] * 4 + [
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Elu",
        "HardSigmoid",
        "Softplus",
        "Abs",
        "Clip",
        "PRelu",
        "Min",
    ]
    kinds += (["HardSwish"] if b.opset >= 14 else []) + (["Mish"] if b.opset >= 18 else [])
    kinds += ["Gelu"] if b.opset >= 20 else []
    kind = b.rng.choice(kinds)
    if kind == "Clip":
        return clipped(b, x, 0.0, 1.0)
    if kind == "PRelu":
        return b.one(kind, [x, b.constant(b.factor(1), "slope")])
    if kind == "Min":
        return b.one(kind, [x, b.constant(np.array(0.7, b.dtype), "most")])
    return b.one(kind, [x])


def clipped(b: Builder, x: str, low: float, high: float) -> str:
    if b.opset < 11:
        return b.one("Clip", [x], min=low, max=high)
    low_name = b.constant(np.array(low, b.dtype), "low", plain=True)
    return b.one("Clip", [x, low_name, b.constant(np.array(high, b.dtype), "high", plain=True)])


def summed(b: Builder, numbers: Sequence[str]) -> str:
    """The values added up, in a random order, by Sum or by Add and Sub."""
    names = list(numbers)
    b.rng.shuffle(names)
    if b.chance(0.2):
        return b.one("Sum", names)
    total = names[0]
    for name in names[1:]:
        total = b.one(b.rng.choice(["Add", "Add", "Sub"]), [total, name])
    return total


def pooled(b: Builder, x: str, kernel: int | None = None, stride: int = 1, pad: int | None = None) -> str:
    rng, dims = b.rng, b.dims
    if b.layouts[x] != "map":
        raise Rejected("no map")
    free = kernel is None
    ks = [rng.choice([1, 2, 3]) for _ in range(dims)] if free else [int(kernel or 1)] * dims
    attributes: dict[str, Any] = {"kernel_shape": ks, "strides": [rng.choice([1, 2]) if free else stride] * dims}
    if b.chance(0.6):
        attributes["count_include_pad"] = rng.choice([0, 1, 1])
    if free and b.chance(0.15):
        attributes["auto_pad"] = rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
    else:
        attributes["pads"] = [rng.randint(0, k - 1) for k in ks * 2] if pad is None else [pad] * 2 * dims
    if free and b.opset >= 10 and b.chance(0.3):
        attributes["ceil_mode"] = 1
    if free and b.opset >= 19 and b.chance(0.2):
        attributes["dilations"] = [rng.choice([1, 2])] * dims
    return b.one("AveragePool", [x], layout="map", **attributes)


def reduced(b: Builder, x: str, op: str, axes: list[int], keep: bool, layout: str) -> str:
    if b.opset < (13 if op == "ReduceSum" else 18):
        return b.one(op, [x], layout=layout, axes=axes, keepdims=int(keep))
    return b.one(op, [x, b.integers(axes, "axes")], layout=layout, keepdims=int(keep))


def padded(b: Builder, x: str, pads: list[int], mode: str = "constant", value: float = 0.0) -> str:
    """Pads on the axes behind the channels: lows, then highs."""
    rank, dims = len(b.shape(x)), len(pads) // 2
    lead = [0] * (rank - dims)
    whole = [*lead, *pads[:dims], *lead, *pads[dims:]]
    if b.opset < 11:
        return b.one("Pad", [x], label=f"Pad {mode}", pads=whole, mode=mode, value=value)
    inputs: list[str | None] = [x, b.integers(whole, "pads")]
    if mode == "constant" and (value or b.chance(0.5)):
        inputs.append(b.constant(np.array(value, b.dtype), "value", plain=True))
    if b.opset >= 18 and b.chance(0.3):
        inputs[1] = b.integers(pads, "pads")
        inputs += [None] * (3 - len(inputs)) + [b.integers(list(range(rank - dims, rank)), "axes")]
    return b.one("Pad", inputs, label=f"Pad {mode}", mode=mode)


def cut(b: Builder, x: str, axes: list[int], starts: list[int], ends: list[int], steps: list[int]) -> str:
    if b.opset < 10:
        if any(step != 1 for step in steps):
            raise Rejected("no steps")
        return b.one("Slice", [x], axes=axes, starts=starts, ends=ends)
    numbers: list[str | None] = [b.integers(n, "slice") for n in (starts, ends)]
    stepped = any(step != 1 for step in steps)
    if axes != list(range(len(axes))) or stepped or b.chance(0.5):
        numbers.append(b.integers(axes, "axes"))
    if stepped or b.chance(0.3):
        numbers += [b.integers(axes, "axes")] if len(numbers) == 2 else []
        numbers.append(b.integers(steps, "steps"))
    return b.one("Slice", [x, *numbers])


def split(b: Builder, x: str, axis: int, widths: list[int]) -> list[str]:
    if b.opset < 13:
        return b.many("Split", [x], outputs=len(widths), axis=axis, split=widths)
    if len(set(widths)) == 1 and b.chance(0.5):
        count = {"num_outputs": len(widths)} if b.opset >= 18 else {}
        return b.many("Split", [x], outputs=len(widths), axis=axis, **count)
    return b.many("Split", [x, b.integers(widths, "split")], outputs=len(widths), axis=axis)


def reshaped(b: Builder, x: str, wanted: Sequence[int | tuple[int, ...]], layout: str = "") -> str:
    return b.one("Reshape", [x, b.sizes(x, wanted)], layout=layout)


def squeezed(b: Builder, op: str, x: str, axes: list[int], layout: str = "") -> str:
    if b.opset < 13:
        return b.one(op, [x], layout=layout, axes=axes)
    return b.one(op, [x, b.integers(axes, "axes")], layout=layout)


def resized(b: Builder, x: str) -> str:
    rng, rank = b.rng, len(b.shape(x))
    mode = rng.choice(["nearest", "linear"])
    scales = b.constant(np.array([1.0, 1.0, *(rng.choice([1.0, 2.0]) for _ in range(rank - 2))], np.float32), "scales")
    if b.opset < 10:
        return b.one("Upsample", [x, scales], mode=mode)
    if b.opset < 11:
        return b.one("Resize", [x, scales], mode=mode)
    empty = None if b.opset >= 13 else b.constant(np.array([], np.float32), "roi", plain=True)
    how = rng.choice(["half_pixel", "asymmetric", "align_corners"])
    if not b.open and b.chance(0.4):
        sizes = b.integers([*b.shape(x)[:2], *(n + rng.randint(0, 3) for n in b.shape(x)[2:])])
        scales = None if b.opset >= 13 else b.constant(np.array([], np.float32), "scales", plain=True)
        return b.one("Resize", [x, empty, scales, sizes], mode=mode, coordinate_transformation_mode=how)
    return b.one("Resize", [x, empty, scales], mode=mode, coordinate_transformation_mode=how)


def classifier(b: Builder, x: str, out: int | None = None) -> str:
    """A Gemm, with all that it takes."""
    rng, count = b.rng, b.channels(x)
    out = out or rng.randint(1, 6)
    turned = b.chance(0.5)
    weight = _weight(b, *((out, count) if turned else (count, out)), fan=count)
    forms = [(out,), (out,), (1, out), (1,), (), None]
    form = rng.choice(forms)
    if form is None and b.opset < 11:
        form = (out,)
    held = [] if form is None else [b.constant(np.asarray(b.normal(*form), b.dtype), "bias")]
    attributes: dict[str, Any] = {"transB": int(turned)} if turned or b.chance(0.5) else {}
    for name in ("alpha", "beta"):
        if b.chance(0.3):
            attributes[name] = rng.choice([0.5, 2.0])
    return b.one("Gemm", [x, weight, *held], layout="vector", **attributes)


def matmul(b: Builder, x: str, out: int | None = None) -> str:
    count = b.shape(x)[-1]
    out = out or b.rng.randint(1, 6)
    return b.one("MatMul", [x, _weight(b, count, out, fan=count)], layout=b.layouts[x])
