"""Structures that ONNX files have, drawn at random: each takes some value of a graph on to another."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from support.onnx_random_builder import Builder, Rejected
from support.onnx_random_layers import (
    classifier,
    conv,
    cut,
    matmul,
    nonlinear,
    norm,
    padded,
    pooled,
    reduced,
    reshaped,
    resized,
    scaled,
    split,
    squeezed,
    summed,
    transposed,
)  # fmt: skip

__all__ = ["DRAWN", "start"]


def _branch(b: Builder, x: str, out: int, kernel: int, stride: int) -> str:
    margin = kernel // 2
    kind = b.rng.choice(["wide", "wide", "point", "chain", "pool", "identity", "padded"])
    if kind == "identity" and stride == 1 and b.channels(x) == out:
        return norm(b, x) if b.chance(0.6) else b.one("Identity", [x])
    if kind == "point":
        return conv(b, x, out, 1, stride, [0] * 2 * b.dims)
    if kind == "chain":
        first = conv(b, x, b.rng.randint(1, 6), 1, 1, [0] * 2 * b.dims)
        first = norm(b, first) if b.chance(0.5) else first
        return conv(b, first, out, kernel, stride, [margin] * 2 * b.dims)
    if kind == "pool":
        return pooled(b, conv(b, x, out, 1, 1, [0] * 2 * b.dims), kernel, stride, margin)
    if kind == "padded":
        return conv(b, padded(b, x, [margin] * 2 * b.dims), out, kernel, stride, [0] * 2 * b.dims)
    return conv(b, x, out, kernel, stride, [margin] * 2 * b.dims)


def branches(b: Builder) -> str:
    """A sum of branches, as of RepVGG, DBB and MobileOne."""
    x = b.pick("map")
    stride, kernel = b.rng.choice([1, 1, 2]), b.rng.choice([3, 3, 5] if b.dims < 3 else [3])
    out = b.channels(x) if b.chance(0.6) else b.rng.randint(2, 6)
    found = []
    for _ in range(b.rng.randint(2, 3)):
        y = _branch(b, x, out, kernel, stride)
        y = norm(b, y) if b.chance(0.5) else y
        found.append(scaled(b, y) if b.chance(0.2) else y)
    total = summed(b, found)
    return nonlinear(b, total) if b.chance(0.6) else total


def chain(b: Builder) -> str:
    """Linear operators one after the other."""
    x = b.pick("map")
    for _ in range(b.rng.randint(2, 4)):
        x = b.rng.choice([conv, conv, conv, norm, scaled, _pad, copied, transposed, pooled])(b, x)
    return x


def _pad(b: Builder, x: str) -> str:
    dims = b.dims
    low = -1 if b.chance(0.2) else 0
    pads = [b.rng.randint(low, 2) for _ in range(2 * dims)]
    kind = b.rng.choice(["constant"] * 4 + ["value", "reflect", "edge"])
    if kind == "value":
        return padded(b, x, pads, value=0.5)
    return padded(b, x, pads if kind == "constant" else [max(n, 0) for n in pads], kind)


def copied(b: Builder, x: str) -> str:
    """A node that leaves its input as it is."""
    kind = b.rng.choice(["Identity", "Dropout", "Cast", "Neg", "Slice", "Squeeze"])
    if kind == "Dropout":
        if b.opset < 12:
            return b.one("Dropout", [x], ratio=0.3)
        return b.one("Dropout", [x, b.constant(np.array(0.3, np.float32), "ratio", plain=True)])
    if kind == "Cast":
        return b.one("Cast", [x], to=helper.np_dtype_to_tensor_dtype(b.dtype))
    if kind == "Slice":
        return cut(b, x, [1], [0], [2**31 - 1], [1])
    if kind == "Squeeze":
        there = squeezed(b, "Unsqueeze", x, [len(b.shape(x))], "other")
        return squeezed(b, "Squeeze", there, [len(b.shape(x))], b.layouts[x])
    return b.one(kind, [x])


def shared(b: Builder) -> str:
    """A linear value with two readers, which may come together again."""
    x = conv(b, b.pick("map"), b.rng.randint(2, 6), 1, 1, [0] * 2 * b.dims)
    x = norm(b, x) if b.chance(0.6) else x
    left, right = conv(b, x, b.channels(x), 1, 1, [0] * 2 * b.dims), norm(b, x) if b.chance(0.5) else x
    right = nonlinear(b, right) if b.chance(0.5) else right
    return summed(b, [left, right]) if b.chance(0.7) else left


def pieces(b: Builder) -> str:
    """Channels taken apart, each piece treated, and put together again."""
    x = b.pick("map")
    count = b.channels(x)
    if count < 2:
        raise Rejected("one channel")
    at = b.rng.randint(1, count - 1)
    widths = [count // 2] * 2 if count % 2 == 0 and b.chance(0.5) else [at, count - at]
    if b.chance(0.6):
        parts = split(b, x, b.rng.choice([1, 1 - len(b.shape(x))]), widths)
    else:
        parts = [cut(b, x, [1], [0], [at], [1]), cut(b, x, [1], [at], [b.rng.choice([count, 2**31 - 1])], [1])]
    treat = [conv, norm, scaled, nonlinear, lambda b, n: n, lambda b, n: conv(b, n, None, 1, 1, [0] * 2 * b.dims)]
    parts = [b.rng.choice(treat)(b, part) for part in parts]
    whole = b.one("Concat", parts, axis=1)
    return b.rng.choice([conv, norm, nonlinear, lambda b, n: n])(b, whole)


def joined(b: Builder) -> str:
    """Values side by side, a normalisation behind them, a convolution that reads them all."""
    x = b.pick("map")
    same = [n for n, kind in b.layouts.items() if kind == "map" and b.shape(n)[2:] == b.shape(x)[2:]]
    same = [n for n in same if b.shape(n)[0] == b.shape(x)[0]]
    found = [b.rng.choice(same), nonlinear(b, conv(b, x, b.rng.randint(1, 4), 1, 1, [0] * 2 * b.dims))]
    if b.chance(0.5):
        found.append(conv(b, x, 3, 3, 1, [1] * 2 * b.dims))
    whole = b.one("Concat", found, axis=1)
    for step in b.rng.sample([norm, nonlinear, conv], 2):
        whole = step(b, whole)
    return whole


def permuted(b: Builder) -> str:
    """Another order of channels, or some of them, or other positions."""
    x = b.pick("map")
    count, rank = b.channels(x), len(b.shape(x))
    kind = b.rng.choice(["shuffle", "shuffle", "gather", "slice", "crop", "step", "backwards"])
    if kind == "shuffle" and count % 2 == 0:
        behind: list[int | tuple[int, ...]] = [(axis,) for axis in range(2, rank)]
        if b.chance(0.4) and not b.open:
            behind = [0] * 0 + behind
        y = reshaped(b, x, [(0,), 2, count // 2, *behind], "other")
        y = b.one("Transpose", [y], layout="other", perm=[0, 2, 1, *range(3, rank + 1)])
        batch: int | tuple[int, ...] = b.rng.choice([-1, (0,)])
        return b.one("Reshape", [y, b.sizes(x, [batch, count, *behind])], layout="map", label="shuffle")
    if kind == "gather":
        order = b.rng.sample(range(count), b.rng.choice([count, max(1, count // 2)]))
        if b.chance(0.3):
            order = [n - count for n in order]
        return b.one("Gather", [x, b.integers(order, "order")], axis=b.rng.choice([1, 1 - rank]))
    if kind == "backwards" and count > 1:
        return cut(b, x, [1], [-1], [-(2**31)], [-1])
    if kind == "crop":
        return cut(b, x, list(range(2, rank)), [1] * (rank - 2), [-1] * (rank - 2), [1] * (rank - 2))
    if kind == "step":
        return cut(b, x, [rank - 1], [b.rng.randint(0, 1)], [2**31 - 1], [2])
    low = b.rng.randint(0, count - 1)
    high = b.rng.randint(low + 1, count)
    return cut(
        b, x, [1], [low], [b.rng.choice([high, high - count if high < count else 2**31 - 1])], [b.rng.choice([1, 1, 2])]
    )


def head(b: Builder) -> str:
    """A global mean, and one or two classifiers, which are added up."""
    x = b.pick("map")
    x = norm(b, x) if b.chance(0.4) else x
    axes = list(range(2, len(b.shape(x))))
    if b.chance(0.5):
        x = b.one("GlobalAveragePool", [x], layout="map")
        kind = b.rng.choice(["Flatten", "Reshape", "Squeeze"])
        if kind == "Flatten":
            x = b.one("Flatten", [x], layout="vector", axis=1)
        elif kind == "Reshape":
            x = reshaped(b, x, b.rng.choice([[(0,), -1], [0, b.channels(x)]]), "vector")
        else:
            x = squeezed(b, "Squeeze", x, axes, "vector")
    else:
        op = b.rng.choice(["ReduceMean", "ReduceMean", "ReduceSum"])
        x = reduced(b, x, op, b.rng.choice([axes, [a - len(b.shape(x)) for a in axes]]), False, "vector")
    x = norm(b, x) if b.chance(0.4) else x
    y = classifier(b, x, 4) if b.chance(0.7) else scaled(b, matmul(b, x, 4))
    if b.chance(0.4):
        y = summed(b, [y, classifier(b, x, 4)])
    return nonlinear(b, y) if b.chance(0.3) else y


def vectors(b: Builder) -> str:
    """Layers on vectors or tokens."""
    x = b.pick("vector", "tokens", "last")
    for _ in range(b.rng.randint(2, 4)):
        steps = [matmul, scaled, nonlinear, copied]
        steps += [classifier, norm] if b.layouts[x] == "vector" else []
        x = b.rng.choice(steps)(b, x)
    return x


def flat(b: Builder) -> str:
    """All channels and positions as one vector, and a classifier."""
    x = b.pick("map")
    if b.open:
        raise Rejected("a classifier has one width")
    x = norm(b, x) if b.chance(0.5) else x
    return classifier(b, b.one("Flatten", [x], layout="vector", axis=b.rng.choice([1, 1 - len(b.shape(x))])), 4)


def channels_last(b: Builder) -> str:
    """Positions before channels, layers there, and back again."""
    x = b.pick("map")
    rank = len(b.shape(x))
    y = b.one("Transpose", [x], layout="last", perm=[0, *range(2, rank), 1])
    for _ in range(b.rng.randint(1, 3)):
        y = b.rng.choice([matmul, scaled, nonlinear])(b, y)
    return b.one("Transpose", [y], layout="map", perm=[0, rank - 1, *range(1, rank - 1)]) if b.chance(0.8) else y


def tokens(b: Builder) -> str:
    """Positions in a row, layers there, perhaps back again."""
    x = b.pick("map")
    rank = len(b.shape(x))
    if rank < 4:
        raise Rejected("a row already")
    y = reshaped(b, x, [(0,), b.channels(x), -1], "other")
    y = b.one("Transpose", [y], layout="tokens", perm=[0, 2, 1])
    y = scaled(b, matmul(b, y)) if b.chance(0.7) else scaled(b, y)
    if b.chance(0.5):
        return y
    z = b.one("Transpose", [y], layout="other", perm=[0, 2, 1])
    behind = [(axis,) for axis in range(2, rank)]
    return b.one("Reshape", [z, b.sizes(x, [(0,), b.channels(y), *behind])], layout="map")


def rearranged(b: Builder) -> str:
    """Resizings, pixels to channels and back, poolings of other kinds."""
    x = b.pick("map")
    kind = b.rng.choice(["resize", "resize", "depth", "space", "space", "max", "pool", "mean"])
    if kind == "resize":
        return resized(b, x)
    if kind == "depth" and b.dims == 2:
        mode = {"mode": b.rng.choice(["CRD", "CRD", "DCR"])} if b.opset >= 11 else {}
        return b.one("DepthToSpace", [conv(b, x, 8, 1, 1, [0] * 4)], blocksize=2, **mode)
    if kind == "space" and b.dims == 2:
        return b.one("SpaceToDepth", [x], blocksize=2)
    if kind == "max":
        return b.one("MaxPool", [x], kernel_shape=[2] * b.dims, strides=[1] * b.dims)
    if kind == "mean":
        return b.one("Mul", [x, b.one("Sigmoid", [b.one("GlobalAveragePool", [x])])])
    return pooled(b, x)


def gated(b: Builder) -> str:
    """Products of two values, and other functions of several."""
    x = b.pick("map")
    y = conv(b, x, b.channels(x), 1, 1, [0] * 2 * b.dims)
    if b.chance(0.5):
        return b.one(b.rng.choice(["Mul", "Max", "Min"]), [x, y])
    return b.one("Softmax", [y], axis=1)


def chosen(b: Builder) -> str:
    """An If whose branches read values from outside; the condition is an input."""
    x = norm(b, conv(b, b.pick("map"), 3, 1, 1, [0] * 2 * b.dims))
    if "flag" not in b.arrays:
        b.inputs.append("flag")
        b.arrays["flag"] = np.array(True)
    kind = helper.np_dtype_to_tensor_dtype(b.dtype)
    if kind != TensorProto.FLOAT:
        raise Rejected("tried in float32")
    held = b.constant(b.factor(3, *[1] * b.dims), "outer")
    ends = [helper.make_tensor_value_info(b.name(n), kind, None) for n in ("then", "else")]
    then = helper.make_graph([helper.make_node("Mul", [x, held], [ends[0].name])], "then", [], ends[:1])
    other = helper.make_graph([helper.make_node("Relu", [x], [ends[1].name])], "else", [], ends[1:])
    name = b.name("if")
    node = helper.make_node("If", ["flag"], [name], then_branch=then, else_branch=other, name=name)
    b.nodes.append(node)
    b.arrays[name] = b.arrays[x] * b.arrays[held]
    b.layouts[name], b.labels[name] = "map", {"If"}
    return name


def start(b: Builder) -> str:
    """Something to begin with that ONNX Runtime runs in every type."""
    x = b.pick("map", "vector", "tokens")
    if b.layouts[x] == "map":
        return conv(b, x, 3, 1, 1, [0] * 2 * b.dims)
    return scaled(b, matmul(b, x))


# Structures with how often they are drawn.
DRAWN = [
    (6, branches), (5, chain), (3, shared), (3, pieces), (3, joined), (4, permuted), (3, head), (3, vectors),
    (2, flat), (3, channels_last), (2, tokens), (3, rearranged), (2, gated), (2, chosen),
]  # fmt: skip
