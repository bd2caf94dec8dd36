"""Cases of convolutions: every form of nn.Conv and nn.ConvTranspose, and convolutions that no module shows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from convfold.studies.bench.counters.cases import Calls, Case, law

__all__ = ["CONVOLUTIONS"]


def _image(*shape: int) -> Any:
    return lambda: (torch.randn(*(shape or (2, 4, 6, 5))),)


class _Standardised(nn.Conv2d):
    """A subclass that computes its kernel before each call."""

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, centred, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Renamed(nn.Conv2d):
    """A subclass that changes nothing."""


class _PerSample(nn.Module):
    """A kernel for each sample, mixed from experts by the input: one grouped convolution for the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 6 * 4 * 3 * 3))
        self.route = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        kernels = torch.softmax(self.route(x.mean((2, 3))), 1) @ self.experts
        merged = x.reshape(1, batch * channels, height, width)
        out = F.conv2d(merged, kernels.view(batch * 6, 4, 3, 3), padding=1, groups=batch)
        return out.view(batch, 6, height, width)


class _Deformable(nn.Module):
    """A deformable 3x3 convolution: offsets by a convolution, nine samples for each position, one product."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(4, 18, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(6, 4 * 9))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        where = torch.tanh(self.offset(x)).view(batch, 9, 2, height, width).permute(0, 1, 3, 4, 2)
        sampled = F.grid_sample(x, where.reshape(batch, 9 * height, width, 2), align_corners=False)
        columns = sampled.view(batch, channels * 9, height * width)
        return (self.weight @ columns).view(batch, 6, height, width)


def _shared() -> nn.Module:
    first, second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


def _separable() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1))


def _traced() -> nn.Module:
    traced: nn.Module = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()))
    return traced


_PLAIN = law(batch=2, positions=6 * 5, out=6, inputs=4, taps=9)
_VALID = law(batch=2, positions=4 * 3, out=6, inputs=4, taps=9)
_TWICE = law(calls=2, batch=2, positions=6 * 5, out=4, inputs=4, taps=9)

CONVOLUTIONS = (
    Case("Conv1d", lambda: nn.Conv1d(4, 6, 3, padding=1), _image(2, 4, 9), law(batch=2, at=9, out=6, inputs=4, taps=3)),
    Case("Conv2d", lambda: nn.Conv2d(4, 6, 3, padding=1), _image(), _PLAIN),
    Case(
        "Conv3d",
        lambda: nn.Conv3d(2, 3, 3, padding=1, bias=False),
        _image(1, 2, 3, 4, 5),
        law(positions=3 * 4 * 5, out=3, inputs=2, taps=27),
    ),
    Case("Conv2d, valid", lambda: nn.Conv2d(4, 6, 3, padding="valid"), _image(), _VALID),
    Case(
        "Conv2d, stride 2",
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
        _image(),
        law(batch=2, positions=3 * 3, out=6, inputs=4, taps=9),
    ),
    Case(
        "Conv2d, dilation 2",
        lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=1),
        _image(),
        law(batch=2, positions=4 * 3, out=6, inputs=4, taps=9),
    ),
    Case(
        "Conv2d, 1x5 with stride (2, 1)",
        lambda: nn.Conv2d(4, 6, (1, 5), stride=(2, 1), padding=(0, 2)),
        _image(),
        law(batch=2, positions=3 * 5, out=6, inputs=4, taps=5),
    ),
    Case(
        "Conv2d, 2 groups",
        lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
        _image(),
        law(batch=2, positions=6 * 5, out=6, inputs_per_group=2, taps=9),
    ),
    Case(
        "Conv2d, depthwise",
        lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
        _image(),
        law(batch=2, positions=6 * 5, channels=4, taps=9),
    ),
    Case(
        "Conv2d, depthwise with multiplier 3",
        lambda: nn.Conv2d(4, 12, 3, stride=2, padding=1, groups=4),
        _image(),
        law(batch=2, positions=3 * 3, channels=4, multiplier=3, taps=9),
    ),
    Case("Conv2d, 1x1", lambda: nn.Conv2d(4, 6, 1), _image(), law(batch=2, positions=6 * 5, out=6, inputs=4)),
    Case(
        "Conv2d, 1x1 in 2 groups",
        lambda: nn.Conv2d(4, 6, 1, groups=2),
        _image(),
        law(batch=2, positions=6 * 5, out=6, inputs_per_group=2),
    ),
    Case("Conv2d, separable", _separable, _image(), law(b=2, at=6 * 5, mid=8, taps=9) + law(b=2, at=6 * 5, o=6, mid=8)),
    Case(
        "Conv2d, padding 'same', 4x4",
        lambda: nn.Conv2d(4, 6, 4, padding="same"),
        _image(),
        law(batch=2, positions=6 * 5, out=6, inputs=4, taps=16),
    ),
    *(
        Case(
            f"Conv2d, {mode} padding",
            lambda mode=mode: nn.Conv2d(4, 6, 3, padding=1, padding_mode=mode),  # type: ignore[misc]
            _image(),
            _PLAIN,
        )
        for mode in ("reflect", "circular", "replicate")
    ),
    Case(
        "Conv2d, unbatched",
        lambda: nn.Conv2d(4, 6, 3),
        _image(4, 6, 5),
        law(positions=4 * 3, out=6, inputs=4, taps=9),
    ),
    Case(
        "Conv1d, unbatched, 2 groups",
        lambda: nn.Conv1d(4, 6, 2, groups=2),
        _image(4, 9),
        law(positions=8, out=6, inputs_per_group=2, taps=2),
    ),
    Case("Conv2d, channels last", lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last), _image(), _VALID),
    Case(
        "ConvTranspose1d, stride 2",
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2),
        _image(2, 4, 5),
        law(batch=2, positions_in=5, inputs=4, out=6, taps=3),
    ),
    Case(
        "ConvTranspose2d, stride 2, output padding",
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
        _image(2, 4, 3, 2),
        law(batch=2, positions_in=3 * 2, inputs=4, out=6, taps=9),
    ),
    Case(
        "ConvTranspose2d, stride 2, 2 groups",
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        _image(2, 4, 3, 2),
        law(batch=2, positions_in=3 * 2, inputs=4, out_per_group=3, taps=4),
    ),
    Case(
        "ConvTranspose2d, depthwise, stride 2",
        lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=4),
        _image(2, 4, 3, 2),
        law(batch=2, positions_in=3 * 2, channels=4, taps=9),
    ),
    Case(
        "ConvTranspose2d, dilation 2",
        lambda: nn.ConvTranspose2d(4, 6, 3, dilation=2, padding=2),
        _image(2, 4, 3, 2),
        law(batch=2, positions_in=3 * 2, inputs=4, out=6, taps=9),
    ),
    Case(
        "ConvTranspose3d, stride 2",
        lambda: nn.ConvTranspose3d(2, 3, 2, stride=2),
        _image(1, 2, 2, 3, 2),
        law(positions_in=2 * 3 * 2, inputs=2, out=3, taps=8),
    ),
    Case(
        "ConvTranspose2d, unbatched",
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
        _image(4, 3, 2),
        law(positions_in=3 * 2, inputs=4, out=6, taps=9),
    ),
    Case(
        "F.conv2d with a module's weight",
        lambda: Calls(lambda conv, x: F.conv2d(x, conv.weight), nn.Conv2d(4, 6, 3)),
        _image(),
        _VALID,
    ),
    Case(
        "F.conv2d with an input as kernel",
        lambda: Calls(lambda x, kernel: F.conv2d(x, kernel)),
        lambda: (torch.randn(2, 4, 6, 5), torch.randn(6, 4, 3, 3)),
        _VALID,
    ),
    Case(
        "F.conv_transpose2d with an input as kernel, 2 groups",
        lambda: Calls(lambda x, kernel: F.conv_transpose2d(x, kernel, stride=2, groups=2)),
        lambda: (torch.randn(2, 4, 3, 2), torch.randn(4, 3, 3, 3)),
        law(batch=2, positions_in=3 * 2, inputs=4, out_per_group=3, taps=9),
    ),
    Case(
        "Conv2d with a kernel for each sample",
        _PerSample,
        _image(),
        law(batch=2, experts=3, channels=4) + law(batch=2, experts=3, kernel=6 * 4 * 9) + _PLAIN,
    ),
    Case(
        "Deformable Conv2d",
        _Deformable,
        _image(),
        law(b=2, at=30, offsets=18, inputs=4, taps=9) + law(b=2, at=30, out=6, inputs=4, taps=9),
    ),
    Case("Conv2d, weight_norm", lambda: weight_norm(nn.Conv2d(4, 6, 3)), _image(), _VALID),
    Case("Conv2d, weight standardised", lambda: _Standardised(4, 6, 3), _image(), _VALID),
    Case("Conv2d, a subclass", lambda: _Renamed(4, 6, 3), _image(), _VALID),
    Case("Conv2d, one weight in two layers", _shared, _image(), _TWICE),
    Case(
        "Conv2d, called twice",
        lambda: Calls(lambda conv, x: conv(conv(x)), nn.Conv2d(4, 4, 3, padding=1)),
        _image(),
        _TWICE,
    ),
    Case(
        "Conv2d, called at two sizes",
        lambda: Calls(lambda conv, x: (conv(x), conv(F.avg_pool2d(x, 2))), nn.Conv2d(4, 6, 3, padding=1)),
        _image(),
        law(batch=2, positions=6 * 5, out=6, inputs=4, taps=9) + law(batch=2, positions=3 * 2, out=6, inputs=4, taps=9),
    ),
    Case(
        "Conv2d, under checkpoint",
        lambda: Calls(lambda conv, x: checkpoint(conv, x, use_reentrant=False), nn.Conv2d(4, 6, 3)),
        _image(),
        _VALID,
    ),
    Case("Conv2d, traced by torch.fx", _traced, _image(), _VALID),
    Case(
        "Conv2d and PixelShuffle",
        lambda: nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2)),
        _image(),
        law(batch=2, positions=6 * 5, out=12, inputs=4, taps=9),
    ),
    Case(
        "conv_tbc",
        lambda: Calls(lambda x, w, b: torch.conv_tbc(x, w, b, 1)),
        lambda: (torch.randn(9, 2, 4), torch.randn(3, 4, 6), torch.randn(6)),
        law(positions=9, batch=2, inputs=4, out=6, taps=3),
    ),
    Case(
        "Unfold and a matrix product",
        lambda: Calls(lambda conv, x: conv.weight.flatten(1) @ F.unfold(x, 3), nn.Conv2d(4, 6, 3)),
        _image(),
        _VALID,
    ),
)
