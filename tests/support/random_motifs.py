"""Structures that networks have, drawn at random: each takes some value of a program on to another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from support.random_builder import Builder, Rejected
from support.random_steps import Like

__all__ = ["DRAWN"]


def _branch(b: Builder, x: int, out: int, kernel: int, stride: int, pad: bool) -> int:
    """One of the ways from `x` to `out` channels on a map of the size that the others have too."""
    inputs, margin = b.channels(x), kernel // 2 if pad else 0
    kind = b.rng.choice(["wide", "wide", "point", "chain", "pool", "identity", "padded", "crop"])
    if kind == "identity" and stride == 1 and inputs == out and pad:
        return b.norm(x) if b.chance(0.6) else x
    if kind == "point" and pad:
        return b.conv(x, out, 1, stride=stride)
    if kind == "chain":
        first = b.conv(x, b.rng.randint(1, 6), 1)
        first = b.norm(first) if b.chance(0.6) else first
        return b.conv(first, out, kernel, stride=stride, padding=margin)
    if kind == "pool":
        first = b.conv(x, out, 1)
        first = b.norm(first) if b.chance(0.6) else first
        return b.one("avg_pool", [first], options=[kernel, stride, margin, False, b.chance(0.7), None])
    if kind == "padded" and pad:
        low = [margin] * 4
        padded = b.one("pad", [x], options=[tuple(low), "constant", 0.0])
        return b.conv(padded, out, kernel, stride=stride)
    if kind == "crop" and not pad and kernel % 2:
        return b.conv(b.one("crop", [x], options=[kernel // 2, kernel // 2]), out, 1, stride=stride)
    groups = b.rng.choice([d for d in (1, 2, 3) if inputs % d == 0 and out % d == 0])
    return b.conv(x, out, kernel, stride=stride, padding=margin, groups=groups)


def branches(b: Builder) -> int:
    """A sum of branches, as of RepVGG, DBB and MobileOne."""
    x = b.pick("map")
    stride, pad = b.rng.choice([1, 1, 2]), b.chance(0.75)
    kernel = b.rng.choice([3, 3, 5]) if pad else b.rng.choice([2, 3, 3])
    out = b.channels(x) if b.chance(0.6) else b.rng.randint(2, 6)
    found = []
    for _ in range(b.rng.randint(2, 4)):
        y = _branch(b, x, out, kernel, stride, pad)
        y = b.norm(y) if b.chance(0.5) else y
        found.append(b.scale(y) if b.chance(0.3) else y)
    total = b.sum(found)
    return b.nonlinear(total) if b.chance(0.6) else total


def chain(b: Builder) -> int:
    """Linear operators one after the other, wide ones before narrow ones and the reverse."""
    x = b.pick("map")
    for _ in range(b.rng.randint(2, 4)):
        x = b.rng.choice([b.conv, b.conv, b.norm, b.scale, lambda n: b.conv(n, None, 1), _plain_pad(b)])(x)
    return x


def _plain_pad(b: Builder) -> Callable[[int], int]:
    return lambda x: b.one("pad", [x], options=[tuple(b.rng.randint(0, 2) for _ in range(4)), "constant", 0.0])


def shared(b: Builder) -> int:
    """A linear value with two readers, which may come together again."""
    x = b.conv(b.pick("map"), b.rng.randint(2, 6), b.rng.choice([1, 1, 3]))
    x = b.norm(x) if b.chance(0.6) else x
    left, right = b.conv(x, b.channels(x), 1), b.norm(x) if b.chance(0.5) else x
    right = b.nonlinear(right) if b.chance(0.5) else right
    return b.sum([left, right]) if b.chance(0.7) else left


def pieces(b: Builder) -> int:
    """Channels taken apart, each piece treated, and put together again."""
    x = b.pick("map")
    count = b.channels(x)
    if count < 2:
        raise Rejected("one channel")
    cut = b.rng.randint(1, count - 1)
    kind, options = b.rng.choice([("chunk", (2,)), ("split", ((cut, count - cut),))])
    parts = b.many(kind, [x], options=options)
    treat = [b.conv, b.norm, b.scale, b.nonlinear, lambda n: n, lambda n: b.conv(n, None, 1)]
    parts = [b.rng.choice(treat)(part) for part in parts]
    if b.chance(0.3):
        b.rng.shuffle(parts)
    whole = b.one("cat", parts)
    after = b.rng.choice([lambda n: b.conv(n, None, 1), b.norm, b.nonlinear, lambda n: n])
    return int(after(whole))


def joined(b: Builder) -> int:
    """Values of different roots side by side, a normalisation behind them, a convolution that reads them all."""
    x = b.pick("map")
    size = b.values[x].shape[2:]
    same = [n for n, v in enumerate(b.values) if b.layouts[n] == "map" and v.shape[2:] == size]
    found = [b.rng.choice(same) for _ in range(b.rng.randint(1, 2))]
    found.append(b.nonlinear(b.conv(x, b.rng.randint(1, 4), 1)))
    if b.chance(0.6):
        found.append(b.conv(x, b.rng.randint(1, 4), 3, padding=1))
    whole = b.one("cat", [b.norm(n) if b.chance(0.2) else n for n in found])
    for step in b.rng.sample([b.norm, b.nonlinear, lambda n: b.conv(n, None, b.rng.choice([1, 3]))], 2):
        whole = step(whole)
    return whole


def shuffled(b: Builder) -> int:
    """Grouped convolutions with a permutation of channels between."""
    x = b.pick("map")
    groups = 2
    x = b.conv(x, b.rng.choice([4, 6, 8]), 1)
    x = b.norm(x) if b.chance(0.5) else x
    x = permuted(b, x, groups)
    x = b.conv(x, b.channels(x), 3, padding=1, groups=b.channels(x)) if b.chance(0.5) else x
    return b.conv(x, 4, 1, groups=b.rng.choice([1, 2]))


def permuted(b: Builder, x: int | None = None, groups: int = 2) -> int:
    x = b.pick("map") if x is None else x
    count = b.channels(x)
    kind = b.rng.choice(["shuffle", "select", "gather", "flip", "roll", "regroup", "slice"])
    if kind in ("select", "gather"):
        order = torch.randperm(count, generator=b.generator)
        if b.chance(0.2):
            order = order[: max(1, count // 2)]
        return b.one(kind, [x], [b.hold(order, "order")])
    if kind in ("flip",):
        return b.one(kind, [x])
    if kind == "slice":
        low = b.rng.randint(0, count - 1)
        return b.one(kind, [x], options=[low, b.rng.randint(low + 1, count), b.rng.choice([1, 1, 2])])
    return b.one(kind, [x], options=[1 if kind == "roll" else groups])


def head(b: Builder) -> int:
    """A global mean, and one or two classifiers, which are added up."""
    x = b.pick("map")
    if b.chance(0.4):
        x = b.norm(x)
    x = b.one("mean", [x], options=[False]) if b.chance(0.5) else b.one("pool flat", [x])
    x = b.norm(x) if b.chance(0.5) else x
    y = b.linear(x, 5)
    if b.chance(0.4):
        other = b.norm(x) if b.chance(0.5) else x
        y = b.sum([y, b.linear(other, 5)])
    return b.one("div", [y], options=[2], label="div number") if b.chance(0.3) else y


def rearranged(b: Builder) -> int:
    """Channels last, or tokens: Linear layers there, a residual, and back."""
    x = b.pick("map")
    height, width = b.values[x].shape[2:]
    last = b.chance(0.5)
    y = b.one("to last" if last else "to tokens", [x])
    start = y
    treat = [b.linear, b.linear, b.scale, b.nonlinear, *([] if last else [b.norm])]
    for _ in range(b.rng.randint(1, 3)):
        y = b.rng.choice(treat)(y)
    if b.values[y].shape == b.values[start].shape and b.chance(0.5):
        y = b.sum([start, y])
    if last:
        return b.one("from last", [y])
    return b.one("from tokens", [y], options=[height, width]) if b.chance(0.8) else b.one("tokens mean", [y])


def pooled(b: Builder) -> int:
    """Average pooling with all its flags, often behind a pointwise convolution."""
    x = b.pick("map")
    x = b.conv(x, None, 1) if b.chance(0.5) else x
    kernel = b.rng.choice([2, 2, 3, (2, 1), (3, 2)])
    low = min(kernel) if isinstance(kernel, tuple) else kernel
    options = [kernel, b.rng.choice([1, 2, 2, 3]), b.rng.randint(0, low // 2), b.chance(0.3), b.chance(0.5)]
    y = b.one("avg_pool", [x], options=[*options, 3 if b.chance(0.1) else None])
    return b.conv(y, None, 1) if b.chance(0.4) else y


def padded(b: Builder) -> int:
    x = b.pick("map")
    mode = b.rng.choice(["constant", "constant", "constant", "reflect", "replicate", "circular"])
    pads = tuple(b.rng.randint(0, 2) for _ in range(4))
    if mode == "constant" and b.chance(0.1):
        pads = (-1, *pads[1:])
    value = 0.0 if mode != "constant" or b.chance(0.8) else 0.5
    y = b.one("pad", [x], options=[pads, mode, value], label=f"pad {mode}" + (" 0.5" if value else ""))
    return b.conv(y) if b.chance(0.7) else y


def sized(b: Builder) -> int:
    """A map brought to the size of another, of which it reads nothing else."""
    like = b.pick("map")
    if b.chance(0.6):
        like = b.one("pad", [like], options=[tuple(b.rng.randint(0, 2) for _ in range(4)), "constant", 0.0])
        b.conv(like)
    x, kind = b.pick("map"), b.rng.choice(["crop like", "resize like"])
    held = [b.hold(Like(kind), "like")] if b.chance(0.5) else []
    return b.one("module" if held else kind, [x, like], held, label=kind)


def blocks_of_space(b: Builder) -> int:
    """Pixel shuffle and unshuffle, upsampling, strided slices, between convolutions."""
    x = b.pick("map")
    kind = b.rng.choice(["pixel_shuffle", "pixel_unshuffle", "upsample", "stride", "crop", "adaptive_pool"])
    if kind == "pixel_shuffle":
        x = b.conv(x, 4 * b.rng.randint(1, 2), b.rng.choice([1, 3]))
    options = {"upsample": [], "crop": [1, 0], "adaptive_pool": [b.rng.choice([1, 2, 3])]}.get(kind, [2])
    y = b.one(kind, [x], options=options)
    return b.conv(y) if b.chance(0.5) else y


def gated(b: Builder) -> int:
    """A map times what a global mean of it says, as squeeze-and-excitation."""
    x = b.pick("map")
    v = b.linear(b.one("mean", [x], options=[False]), b.channels(x))
    return b.one("gate", [x, v])


def passing(b: Builder) -> int:
    """What changes nothing in eval mode."""
    x = b.pick("map")
    kinds: list[Callable[[], nn.Module]] = [lambda: nn.Dropout(0.3), lambda: nn.Dropout2d(0.3), nn.Identity]
    return b.module(x, b.rng.choice(kinds)())


def flat(b: Builder) -> int:
    """A whole map as one vector, and a Linear on it."""
    return b.linear(b.one("flatten", [b.pick("map")]), 4)


def in_vectors(b: Builder) -> int:
    x = b.pick("vector")
    return int(b.rng.choice([b.linear, b.norm, b.scale, b.nonlinear])(x))


def transposed(b: Builder) -> int:
    x = b.pick("map")
    layer = nn.ConvTranspose2d(b.channels(x), b.rng.randint(1, 4), b.rng.choice([2, 3]), b.rng.choice([1, 2]))
    y = b.module(x, layer)
    return b.norm(y) if b.chance(0.6) else y


def products(b: Builder) -> int:
    x = b.pick("map")
    found = [n for n, v in enumerate(b.values) if v.shape == b.values[x].shape and b.layouts[n] == "map"]
    return b.one(b.rng.choice(["mul", "add", "sub"]), [x, b.rng.choice(found)], label="of two values")


def single(b: Builder) -> int:
    x = b.pick("map")
    return int(b.rng.choice([b.conv, b.conv, b.norm, b.scale, b.nonlinear])(x))


DRAWN: list[tuple[int, Callable[[Builder], int]]] = [
    (8, single),
    (6, branches),
    (3, chain),
    (3, shared),
    (3, pieces),
    (3, joined),
    (2, shuffled),
    (2, permuted),
    (2, head),
    (3, rearranged),
    (2, pooled),
    (2, padded),
    (2, sized),
    (1, blocks_of_space),
    (1, gated),
    (2, passing),
    (1, flat),
    (1, in_vectors),
    (1, transposed),
    (2, products),
    (1, lambda b: b.one("max_pool", [b.pick("map")])),
    (2, lambda b: b.again()),
]
