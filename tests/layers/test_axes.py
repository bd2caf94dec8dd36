"""Flattened and spatially separable: kernels along one axis at a time."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case, normal
from blocks.contract import same_values
from blocks.plain import conv, padded
from convfold import layers
from convfold.errors import InvalidArgument
from layers.suite import LayerSuite
from support.make import randomise


def alone(values: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(v if n == axis else 1 for n, v in enumerate(values))


def run_axes(module: Any, a: dict[str, Any], x: Tensor) -> list[int]:
    """Which axes have a kernel of their own: those that are not one tap without stride and padding."""
    grown = padded(x, a).shape[2:]
    return [n for n, k in enumerate(a["kernel_size"]) if k > 1 or a["stride"][n] > 1 or grown[n] != x.shape[2 + n]]


def flattened(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    axes = run_axes(module, a, x)
    x = padded(x, a)

    def lateral(x: Tensor) -> Tensor:
        return conv(x, module.lateral.weight, module.lateral.bias, groups=a["groups"])

    x = lateral(x) if module.lateral_first else x
    assert len(axes) == len(module.axes)
    for axis, part in zip(axes, module.axes, strict=True):
        x = conv(x, part.weight, part.bias, alone(a["stride"], axis), alone(a["dilation"], axis), x.shape[1])
    return x if module.lateral_first else lateral(x)


class TestFlattened(LayerSuite):
    name = "flattened"
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"groups": 2}, {"stride": (2, 1), "kernel_size": (3, 2)}, {"kernel_size": (1, 3)}],
        "lateral": ["first", "last"],
    }
    oracle = staticmethod(flattened)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        return {}, {"lateral": draw(st.sampled_from(["first", "last"]))}, {}

    @pytest.mark.parametrize("lateral", ["first", "last"])
    def test_a_kernel_is_an_outer_product(self, lateral: str) -> None:
        torch.manual_seed(0)
        layer = layers.FlattenedConv3d(3, 4, (3, 4, 5), lateral=lateral, dtype=torch.float64)
        kernel = layer.fold().weight.detach()
        # One output under lateral "first", one input under "last": an outer product of all its axes.
        fixed = kernel[1] if lateral == "first" else kernel[:, 1]
        for axis in range(4):
            assert torch.linalg.matrix_rank(fixed.movedim(axis, 0).flatten(1)) == 1

    def test_the_paper_s_parameters(self) -> None:
        # C + X + Y numbers per filter.
        layer = layers.FlattenedConv2d(16, 32, (3, 5), bias=False)
        assert sum(p.numel() for p in layer.parameters()) == 32 * (16 + 3 + 5)

    def test_lateral_is_first_or_last(self) -> None:
        with pytest.raises(
            InvalidArgument, match="FlattenedConv2d: lateral is unknown: got 'middle', expected 'first'"
        ):
            layers.FlattenedConv2d(4, 4, 3, lateral="middle")

    def test_one_tap_is_one_pointwise_convolution_with_its_bias(self) -> None:
        layer = layers.FlattenedConv2d(4, 6, 1)
        assert [name for name, _ in layer.named_parameters()] == ["lateral.weight", "lateral.bias"]


def one_by_one(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    axes = run_axes(module, a, x) or [0]
    x = padded(x, a)
    for axis, part in zip(axes, module.axes, strict=True):
        x = conv(x, part.weight, part.bias, alone(a["stride"], axis), alone(a["dilation"], axis), a["groups"])
    return x


class TestSpatiallySeparable(LayerSuite):
    name = "spatially_separable"
    typical_options: ClassVar[dict[str, Any]] = {"mid_channels": 3}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"stride": (2, 1), "kernel_size": (3, 2)}, {"kernel_size": (1, 3)}],
        "mid_channels": [None, 1, 5],
    }
    oracle = staticmethod(one_by_one)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        middle = draw(st.none() | st.integers(1, 3))
        return {}, {"mid_channels": None if middle is None else middle * arguments["groups"]}, {}

    @pytest.mark.parametrize("middle", [1, 2, 5, 12])
    def test_the_rank_is_that_of_the_channels_between(self, middle: int) -> None:
        torch.manual_seed(0)
        layer = layers.SpatiallySeparableConv2d(4, 5, 3, mid_channels=middle, dtype=torch.float64)
        kernel = layer.fold().weight.detach()  # (o, i, u, v)
        assert torch.linalg.matrix_rank(kernel.permute(0, 3, 1, 2).reshape(15, 12)) == min(middle, 12)

    def test_the_channels_between_are_a_positive_integer_that_the_groups_divide(self) -> None:
        with pytest.raises(InvalidArgument, match="mid_channels is not a positive integer: got 0, expected an integer"):
            layers.SpatiallySeparableConv2d(4, 4, 3, mid_channels=0)
        sentence = (
            r"groups must divide in_channels and out_channels: got groups=2 with 4 -> 3.*nearest legal value is 1"
        )
        with pytest.raises(InvalidArgument, match=sentence):
            layers.SpatiallySeparableConv2d(4, 4, 3, groups=2, mid_channels=3)

    def test_with_one_axis_it_is_the_plain_convolution(self) -> None:
        for layer in (layers.SpatiallySeparableConv1d(4, 6, 3), layers.SpatiallySeparableConv2d(4, 6, 1)):
            assert len(layer.axes) == 1
            assert layer.fold().weight.shape == layer.axes[0].weight.shape


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
@pytest.mark.parametrize("name", ["flattened", "spatially_separable"])
def test_blocks_with_a_bias_inside_fold_at_the_border_too(name: str, mode: str) -> None:
    """A batch normalisation between two padded axes: its shift is no constant under zeros, so these stand before it."""
    layer = layers.build(name, 2, 3, 3, 3, padding=2, padding_mode=mode, conv="acnet").double()
    randomise(layer, torch.Generator().manual_seed(0)).eval()
    x = normal(2, 3, 7, 8)
    same_values(layer.fold()(x), layer(x))
