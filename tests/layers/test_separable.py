"""Depthwise separable: a kernel of its own for each channel, then a mix; rank r per input channel."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case, normal
from blocks.plain import conv, padded
from convfold import blocks, cost, layers
from convfold.algebra import Chain, Conv, text
from convfold.errors import InvalidArgument
from layers.suite import LayerSuite


def features(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    apart = conv(padded(x, a), module.depthwise.weight, None, a["stride"], a["dilation"], a["in_channels"])
    return conv(apart, module.pointwise.weight, module.pointwise.bias, groups=a["groups"])


class TestDepthwiseSeparable(LayerSuite):
    name = "depthwise_separable"
    typical_options: ClassVar[dict[str, Any]] = {"depth_multiplier": 2}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"groups": 2}, {"stride": (2, 1), "kernel_size": (3, 2)}],
        "depth_multiplier": [1, 3, 9],
    }
    oracle = staticmethod(features)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        return {}, {"depth_multiplier": draw(st.integers(1, 3))}, {}

    @pytest.mark.parametrize("rank", [1, 2, 3, 6, 9])
    def test_the_rank_per_input_channel_is_the_multiplier(self, rank: int) -> None:
        torch.manual_seed(0)
        folded = layers.DepthwiseSeparableConv2d(3, 6, 3, depth_multiplier=rank, dtype=torch.float64).fold()
        for channel in range(3):
            kernels = folded.weight[:, channel].detach().flatten(1)
            assert torch.linalg.matrix_rank(kernels) == min(rank, 6, 9)

    def test_a_multiplier_is_a_positive_integer(self) -> None:
        for value in (0, -1, 1.5, True):
            sentence = f"DepthwiseSeparableConv2d: depth_multiplier is not a positive integer: got {value}, expected an"
            with pytest.raises(InvalidArgument, match=sentence):
                layers.DepthwiseSeparableConv2d(4, 4, 3, depth_multiplier=value)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_the_feature_composition_of_do_conv(dims: int, multiplier: int, groups: int) -> None:
    """DO-Conv's ``W x (D o P)`` with D_mul = r is the depthwise separable layer of multiplier r, r = 1 as usual."""
    arguments = {"stride": 2, "padding": 1, "groups": groups, "dtype": torch.float64}
    block = blocks.build("doconv", dims, 4, 6, 3, **arguments, D_mul=multiplier, allow_rank_deficient=True)
    layer = layers.build("depthwise_separable", dims, 4, 6, 3, **arguments, depth_multiplier=multiplier)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(normal(*parameter.shape, seed=1))
        # D of DO-Conv is (C_in, taps, D_mul), over an identity that is empty below full rank.
        assert bool(block.over.any()) == (multiplier >= 3**dims)
        layer.depthwise.weight.copy_((block.depth + block.over).transpose(1, 2).reshape(-1, 1, *(3,) * dims))
        layer.pointwise.load_state_dict(block.conv.state_dict())
    x = normal(2, 4, *(6,) * dims, seed=2)
    for mode in ("feature", "kernel"):
        block.mode = layer.mode = mode
        error = (layer(x) - block(x)).abs().max() / block(x).abs().max()
        assert error <= 1e-12
    assert text(layer.op()) == text(block.op())
    for ours, theirs in zip(parts(layer), parts(block), strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert (ours.window, ours.groups, ours.padding_mode) == (theirs.window, theirs.groups, theirs.padding_mode)
    assert torch.equal(layer.fold().weight, block.fold().weight)


def parts(module: Any) -> tuple[Conv, ...]:
    chain = module.op()
    assert isinstance(chain, Chain)
    assert [type(part) for part in chain.parts] == [Conv, Conv]
    return chain.parts


def test_the_worked_example() -> None:
    layer = layers.DepthwiseSeparableConv2d(3, 16, 3, stride=2, padding=1, bias=False)
    x = torch.empty(1, 3, 11, 11)
    assert tuple(layer(x).shape) == (1, 16, 6, 6)
    assert cost(layer, x).macs == 972 + 1728
    assert cost(layer.fold(), x).macs == 15552
