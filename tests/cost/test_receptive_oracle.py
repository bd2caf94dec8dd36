"""Receptive fields against the oracle: where the gradient of one output element is not zero."""

import random

import pytest
import torch
from torch import nn

from convfold.algebra import hollow
from convfold.cost.counting.counter import OperatorCounter
from convfold.cost.receptive.observer import ReceptiveObserver
from convfold.graph.inputs import example_inputs

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MEAN = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


def followed(model, x):
    """The observer after a forward pass on meta tensors, and the model's output."""
    empty, given = hollow(model).eval(), example_inputs(model, torch.empty_like(x, device="meta"))
    observer = ReceptiveObserver(given)
    with torch.no_grad(), OperatorCounter(empty, given, meta=True, observers=(observer,)):
        out = given.call(empty)
    return observer, out


def touched(model, x, index):
    """The first and the last position per axis at which the gradient of the output at `index` is not zero."""
    x = x.clone().requires_grad_()
    model.eval()(x)[index].sum().backward()
    bounds = []
    for axis in range(2, x.dim()):
        others = [d for d in range(x.dim()) if d != axis]
        where = x.grad.abs().sum(others).nonzero().flatten()
        bounds.append((int(where.min()), int(where.max())) if len(where) else None)
    return bounds


def positive(model):
    """No sum of weights may cancel, and a maximum must not hide a position: the model is positive and linear."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return model.double()


def check(model, x, indices):
    observer, out = followed(model, x)
    real = model.eval()(x)
    assert out.shape == real.shape
    compared = 0
    for at in indices(real.shape):
        index = (0, 0, *at)
        positions = observer.positions(out, index)
        told = [bounds for (_, axis), bounds in sorted(positions.items()) if axis >= 2]
        # What hangs over a border falls on padding, there or on the way, and has no gradient.
        if None in told or all(lo >= 0 and hi < n for (lo, hi), n in zip(told, x.shape[2:], strict=True)):
            expected = [None] * len(told) if None in told else told
            assert touched(model, x, index) == expected, index
            compared += 1
    return compared


def everywhere(shape):
    centre = [size // 2 for size in shape[2:]]
    yield from ([c + o for c, s in zip(centre, shape[2:], strict=True)] for o in range(-3, 4))


class Branches(nn.Module):
    def __init__(self, *branches, join):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.join = join

    def forward(self, x):
        parts = [branch(x) for branch in self.branches]
        size = [min(sizes) for sizes in zip(*(p.shape[2:] for p in parts), strict=True)]
        cut = (slice(None), slice(None), *(slice(s) for s in size))
        parts = [p[cut] for p in parts]
        return torch.cat(parts, 1) if self.join == "cat" else sum(parts)


def random_layer(draw, dims, size):
    """A layer and how much it makes a map smaller (below one: larger)."""
    kind = draw.choice(
        ["conv", "conv", "conv", "depthwise", "transposed", "mean", "resize", "shuffle", "branches", "pad"]
    )
    kernel = [draw.choice([1, 2, 3, 4, 5]) for _ in range(dims)]
    stride = [draw.choice([1, 1, 2, 3]) for _ in range(dims)]
    dilation = [draw.choice([1, 1, 2, 3]) for _ in range(dims)]
    pad = [draw.randint(0, 3) for _ in range(dims)]
    if kind == "conv":
        return CONV[dims](4, 4, kernel, stride, pad, dilation, groups=draw.choice([1, 2]))
    if kind == "depthwise":
        return CONV[dims](4, 4, kernel, stride, pad, dilation, groups=4)
    if kind == "transposed":
        if dims > 1:  # per axis nothing tells that an element between the taps of another axis reads nothing
            kernel, dilation = [max(k, s) for k, s in zip(kernel, stride, strict=True)], 1
        pad = [min(p, d * (k - 1)) for p, d, k in zip(pad, dilation if dims == 1 else [1] * dims, kernel, strict=True)]
        return TRANSPOSED[dims](4, 4, kernel, stride, pad, 0, draw.choice([1, 2]), dilation=dilation)
    if kind == "mean":
        return MEAN[dims](kernel, stride, [min(p, k // 2) for p, k in zip(pad, kernel, strict=True)])
    if kind == "resize":
        mode = draw.choice(["nearest", "nearest-exact", {1: "linear", 2: "bilinear", 3: "trilinear"}[dims]])
        return nn.Upsample(scale_factor=draw.choice([2, 3]), mode=mode)
    if kind == "shuffle" and dims == 2:
        return nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(16, 16, 1, groups=4), nn.Conv2d(16, 8, 1), nn.PixelShuffle(2)
        )
    if kind == "pad" and dims > 1:
        return nn.ZeroPad2d([1, 0, 2, 1]) if dims == 2 else nn.ZeroPad3d([1, 0, 2, 1, 0, 3])
    first = CONV[dims](4, 4, kernel, 2, pad, dilation)
    second = nn.Sequential(CONV[dims](4, 4, 1), CONV[dims](4, 4, kernel[::-1], 2, pad[::-1]))
    if draw.random() < 0.5:
        return Branches(first, second, join="sum")
    return nn.Sequential(Branches(first, second, join="cat"), CONV[dims](8, 4, 1))


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_exactly(seed):
    draw = random.Random(seed)
    dims = draw.choice([1, 1, 2, 2, 2, 3])
    size = {1: 300, 2: 64, 3: 20}[dims]
    layers: list[nn.Module] = []
    x = torch.rand(1, 4, *(size + draw.randint(0, 3) for _ in range(dims)), dtype=torch.float64) + 0.5
    for _ in range(draw.randint(2, 5)):
        layer = random_layer(draw, dims, size)
        try:
            shape = nn.Sequential(*layers, layer).double()(x).shape
        except RuntimeError:  # a map smaller than its window
            continue
        if min(shape[2:]) >= 7 and shape[2:].numel() < 60_000 and shape[1] == 4:
            layers.append(layer)
    compared = check(positive(nn.Sequential(*layers)), x, everywhere)
    assert compared >= 5  # seven outputs are looked at, and few of their fields hang over a border
