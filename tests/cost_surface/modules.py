"""Every form of a convolution as modules of torch.nn, and random layers to give it to."""

from __future__ import annotations

import random
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from convfold.geometry import conv_window, point
from convfold.geometry.closed import Layer
from convfold.geometry.window import Window

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def random_layer(seed: int, groups: int | None = None) -> Layer:
    """A layer of one to three axes, whose padding is the same before and after."""
    draw = random.Random(seed)
    dims = 1 + seed % 3
    # The last axis is wider than 1: every form is one of it.
    kernels = [draw.choice((1, 2, 3, 5)) for _ in range(dims - 1)] + [draw.choice((2, 3, 5))]
    if dims > 1:
        kernels[0] = draw.choice((2, 3))
    dilations = [draw.choice((1, 1, 2)) for _ in range(dims)]
    window = conv_window(
        dims, tuple(kernels), tuple(draw.choice((1, 1, 2, 3)) for _ in range(dims)),
        tuple(draw.randint(0, k) for k in kernels), tuple(dilations),
    )  # fmt: skip
    g = groups or draw.choice((1, 1, 2, 4))
    size = tuple(draw.randint(9, 13) for _ in range(dims))
    return Layer(g * draw.choice((1, 2, 4)), g * draw.choice((2, 4, 8)), window, size, g, draw.choice((1, 3)))


def conv(c: int, n: int, window: Window, groups: int = 1, transposed: bool = False) -> nn.Module:
    kinds = TRANSPOSED if transposed else CONVS
    names = ("kernel", "stride", "lo", "dilation")
    kernel, stride, padding, dilation = (tuple(getattr(axis, name) for axis in window) for name in names)
    assert all(axis.lo == axis.hi for axis in window)
    return kinds[len(window)](
        c, n, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=False
    )


def along(layer: Layer, channels: int) -> list[nn.Module]:
    """Depthwise along each axis."""
    one = point(len(layer.window))
    windows = [tuple(a if i == at else o for i, (a, o) in enumerate(zip(layer.window, one, strict=True)))
               for at in range(len(one))]  # fmt: skip
    return [conv(channels, channels, window, channels) for window in windows]


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        split = x.reshape(x.shape[0], self.groups, -1, *x.shape[2:])
        return split.transpose(1, 2).contiguous().view(x.shape)


class Gated(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        given = (layer.in_channels, layer.out_channels, layer.window, layer.groups)
        self.features, self.gates = conv(*given), conv(*given)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) * torch.sigmoid(self.gates(x))


class FullyConnected(nn.Module):
    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.shape = (layer.out_channels, *layer.out_size)
        self.linear = nn.Linear(layer.in_channels * prod(layer.size), prod(self.shape), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).view(-1, *self.shape)


class Attention(nn.Module):
    """One head; queries at the middle of every window, keys over the map or, `restricted`, over the window."""

    def __init__(self, layer: Layer, restricted: bool) -> None:
        super().__init__()
        self.layer, self.restricted = layer, restricted
        one = point(len(layer.size))
        self.queries, self.keys, self.values = (conv(layer.in_channels, layer.out_channels, one) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        n = self.layer.out_channels
        queries = (self.queries(self.centres(x)) * n**-0.5).flatten(2).transpose(1, 2)
        keys, values = self.keys(x), self.values(x)
        if not self.restricted:
            scores = torch.softmax(queries @ keys.flatten(2), -1)
            return scores @ values.flatten(2).transpose(1, 2)
        keys, values = self.gathered(keys), self.gathered(values)
        asked = queries.reshape(-1, 1, n)
        scores = torch.softmax(torch.bmm(asked, keys), -1)
        return torch.bmm(scores, values.transpose(1, 2))

    def centres(self, x: Tensor) -> Tensor:
        # Where a window's middle lies outside, any element stands for it: the count is the same.
        for dim, (axis, out) in enumerate(zip(self.layer.window, self.layer.out_size, strict=True), 2):
            start = min(max((axis.span - 1) // 2 - axis.lo, 0), x.shape[dim] - 1 - (out - 1) * axis.stride)
            if start < 0:
                x = functional.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, -start))
                start = 0
            x = x.narrow(dim, start, (out - 1) * axis.stride + 1)[
                (slice(None),) * dim + (slice(None, None, axis.stride),)
            ]
        return x

    def gathered(self, x: Tensor) -> Tensor:
        dims = len(self.layer.window)
        pads = [n for axis in reversed(self.layer.window) for n in (axis.lo, axis.hi)]
        x = functional.pad(x, pads) if any(pads) else x
        for dim, axis in enumerate(self.layer.window, 2):
            x = x.unfold(dim, axis.span, axis.stride)[..., :: axis.dilation]
        # (B, N, out..., k...) -> (B, out..., N, k...)
        order = (0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims))
        return x.permute(order).clone(memory_format=torch.contiguous_format).view(-1, x.shape[1], self.layer.taps)


def built(layer: Layer, form: str, *numbers: int) -> nn.Module:
    """The form as modules without biases, on meta tensors."""
    with torch.device("meta"):
        return _built(layer, form, *numbers)


def _built(layer: Layer, form: str, *numbers: int) -> nn.Module:
    c, n, g, window = layer.in_channels, layer.out_channels, layer.groups, layer.window
    one = point(len(window))
    number = numbers[0] if numbers else 1
    chains = {
        "convolution": lambda: [conv(c, n, window, g)],
        "grouped": lambda: [conv(c, n, window, number)],
        "depthwise": lambda: [conv(c, c * number, window, c)],
        "pointwise": lambda: [conv(c, n, layer.centres.window, g)],
        "separable": lambda: [conv(c, c * number, window, c), conv(c * number, n, one, g)],
        "flattened": lambda: [conv(c, n, one, g), *along(layer, n)],
        "rank": lambda: [conv(c, number * g, window, g), conv(number * g, n, one, g)],
        "tucker": lambda: [
            conv(c, numbers[0] * g, one, g), conv(numbers[0] * g, numbers[1] * g, window, g),
            conv(numbers[1] * g, n, one, g),
        ],
        "cp": lambda: [conv(c, number * g, one, g), *along(layer, number * g), conv(number * g, n, one, g)],
        "bottleneck": lambda: list(_built(layer, "tucker", *[n // g // number] * 2)),
        "shuffle": lambda: [conv(c, n, one, number), Shuffle(number), conv(n, n, window, n), conv(n, n, one, number)],
        "transposed": lambda: [conv(c, n, window, g, transposed=True)],
        "full-map": lambda: [CONVS[len(window)](c, n, layer.size, bias=False)],
        "gated": lambda: [Gated(layer)],
        "fully-connected": lambda: [FullyConnected(layer)],
        "self-attention": lambda: [Attention(layer, restricted=False)],
        "restricted-attention": lambda: [Attention(layer, restricted=True)],
        "spatial": lambda: spatial(layer, number),
    }  # fmt: skip
    return nn.Sequential(*chains[form]())


def spatial(layer: Layer, rank: int) -> list[nn.Module]:
    found, reads, dims = [], layer.in_channels, len(layer.window)
    for at, axis in enumerate(layer.window):
        writes = layer.out_channels if at == dims - 1 else rank * layer.groups
        window = tuple(axis if i == at else o for i, o in enumerate(point(dims)))
        found.append(conv(reads, writes, window, layer.groups))
        reads = writes
    return found
