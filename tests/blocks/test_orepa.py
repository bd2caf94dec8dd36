"""OREPA: six branches, each under a learned factor per output channel, composed in weight space."""

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from blocks.cases import Case
from blocks.plain import conv, look_through, mean_of_taps, padded
from blocks.suite import BlockSuite
from convfold import blocks


def cosines(outputs: int, kernel: tuple[int, ...]) -> Tensor:
    """Row o runs along one axis: the outputs are shared out over the axes that have more than one tap."""
    axes = [axis for axis, k in enumerate(kernel) if k > 1]
    share = -(-outputs // len(axes))
    prior = torch.zeros(outputs, 1, *kernel, dtype=torch.float64)
    for o in range(outputs):
        axis = axes[o // share]
        k, frequency = kernel[axis], (o % share + 1) % kernel[axis]
        for tap in range(k):
            prior[o].select(1 + axis, tap).fill_(math.cos(math.pi * (tap + 0.5) * frequency / k))
    return prior


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, groups = case.arguments, case.arguments["groups"]
    one = [1] * case.dims
    wide = padded(x, a)

    def scaled(branch: int, y: Tensor) -> Tensor:
        return module.factors[branch].reshape(-1, *one) * y

    def windowed(x: Tensor, weight: Tensor, groups: int) -> Tensor:
        return conv(x, weight, None, a["stride"], a["dilation"], groups)

    width = a["in_channels"] // groups
    rows = torch.cat([torch.eye(width, dtype=x.dtype)] * groups)
    squeezed = conv(x, (module.squeeze.weight + rows).reshape(-1, width, *one), None, groups=groups)
    y = scaled(0, windowed(wide, module.dense.weight, groups))
    y = y + scaled(3, windowed(padded(squeezed, a), module.chained.weight, groups))
    deep = windowed(wide, module.depthwise.weight, a["in_channels"])
    y = y + scaled(5, conv(deep, module.mixed.weight, None, groups=groups))
    if any(k > 1 for k in a["kernel_size"]):
        first = padded(conv(x, module.average.weight, None, groups=groups), a)
        y = y + scaled(1, mean_of_taps(first, a))
        second = padded(conv(x, module.cosine.weight, None, groups=groups), a)
        y = y + scaled(2, windowed(second, cosines(a["out_channels"], a["kernel_size"]), a["out_channels"]))
        y = y + scaled(4, conv(look_through(wide, a), module.point.weight, None, groups=groups))
    return y if module.bias is None else y + module.bias.reshape(-1, *one)


class TestOREPA(BlockSuite):
    name = "orepa"
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [
            {}, {"stride": (2, 2)}, {"groups": 4}, {"groups": 2, "out_channels": 6},
            {"kernel_size": (1, 1), "padding": (0, 0)}, {"kernel_size": (1, 5), "padding": (0, 2)},
        ],
    }  # fmt: skip
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {}

    @pytest.mark.parametrize("kernel", [1, 3, 5, 7, (3, 5), (1, 7), (5, 1), (2, 4)])
    @pytest.mark.parametrize("outputs", [1, 2, 7, 64])
    def test_pitfall_22_the_prior_is_finite_and_no_row_vanishes(self, outputs: int, kernel: Any) -> None:
        module = blocks.OREPAConv2d(4, outputs, kernel, dtype=torch.float64)
        assert module.prior.shape == (outputs, 1, *module.kernel_size)
        assert torch.isfinite(module.prior).all()
        assert (module.prior.flatten(1).abs().amax(1) > 0.3).all()
        if any(k > 1 for k in module.kernel_size):
            assert (module.prior - cosines(outputs, module.kernel_size)).abs().max() < 1e-14
        for row in module.prior[:, 0]:
            assert torch.equal(row, row[:1].expand_as(row)) or torch.equal(row, row[:, :1].expand_as(row))

    @pytest.mark.parametrize("dims", [1, 3])
    def test_the_prior_in_other_dimensions(self, dims: int) -> None:
        prior = blocks.build("orepa", dims, 4, 9, 3, dtype=torch.float64).prior
        assert (prior - cosines(9, (3,) * dims)).abs().max() < 1e-14
        # Frequencies 1, 2 and 0 in turn: a third of the rows of each share average.
        assert (prior.flatten(1).std(1) < 1e-12).sum() == 3

    def test_it_starts_as_published(self) -> None:
        torch.manual_seed(0)
        module = blocks.OREPAConv2d(16, 32, 3, padding=1)
        assert module.factors[:, 0].tolist() == [0.25, 0.25, 0.0, 0.5, 1.0, 0.5]
        assert torch.equal(module.factors, module.factors[:, :1].expand_as(module.factors))
        for name, fan in {"dense": 144, "average": 16, "cosine": 16, "chained": 144, "point": 16}.items():
            bound = (6 / fan) ** 0.5  # Kaiming's uniform distribution with a = 0
            weight = getattr(module, name).weight
            assert 0.95 * bound < weight.abs().max() <= bound, name
        assert module.squeeze.weight.abs().max() == 0
        assert module.bias.abs().max() == 0
        assert module.depthwise.weight.shape == (8 * 16, 1, 3, 3)

    def test_the_prior_is_no_weight(self) -> None:
        module = blocks.OREPAConv2d(4, 4, 3)
        assert "prior" in module.state_dict()  # rounded as it was built, so that a copy computes the same
        assert "prior" not in dict(module.named_parameters())
        assert "prior" not in dict(module.named_parameters())
