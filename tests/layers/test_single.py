"""Dilated, pointwise, full-map: one kernel each."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from blocks.cases import Case, normal
from blocks.contract import same_values
from blocks.plain import conv, padded
from convfold import layers
from convfold.algebra.grouped import GroupedLinear
from convfold.errors import InvalidArgument, NotFoldable
from layers.suite import LayerSuite


def plain(module: Any, case: Case, x: Tensor) -> Tensor:
    a = {**case.whole}
    return conv(padded(x, a), module.conv.weight, module.conv.bias, a["stride"], a["dilation"], a["groups"])


class TestDilated(LayerSuite):
    name = "dilated"
    typical: ClassVar[dict[str, Any]] = {**LayerSuite.typical, "dilation": (2, 2)}
    grid: ClassVar[dict[str, list[Any]]] = {"arguments": [{}, {"groups": 2, "stride": (2, 1)}, {"padding": "same"}]}
    oracle = staticmethod(plain)

    def test_it_keeps_the_size_and_sees_further_by_default(self) -> None:
        layer = layers.DilatedConv2d(3, 4, (3, 4))
        assert (layer.dilation, layer.padding, layer.receptive_field) == ((2, 2), "same", (5, 7))
        x = torch.randn(1, 3, 9, 10)
        assert layer(x).shape == (1, 4, 9, 10)
        expected = nn.Conv2d(3, 4, (3, 4), dilation=2, padding="same")
        expected.load_state_dict(layer.conv.state_dict())
        assert torch.equal(layer(x), expected(x))

    def test_a_stride_names_its_padding(self) -> None:
        with pytest.raises(InvalidArgument, match=r"padding='same' has no meaning with a stride: got stride \(2,\)"):
            layers.DilatedConv1d(3, 4, 3, stride=2)
        assert layers.DilatedConv1d(3, 4, 3, stride=2, padding=2)(torch.randn(1, 3, 9)).shape == (1, 4, 5)


class TestPointwise(LayerSuite):
    name = "pointwise"
    kernels = 1
    typical: ClassVar[dict[str, Any]] = {**LayerSuite.typical, "kernel_size": (1, 1), "padding": (0, 0)}
    grid: ClassVar[dict[str, list[Any]]] = {"arguments": [{}, {"groups": 2, "stride": (2, 1)}]}
    oracle = staticmethod(plain)

    def test_repr_shows_arguments_and_mode(self) -> None:
        text = repr(layers.PointwiseConv2d(4, 6, groups=2))
        assert text.startswith(
            "PointwiseConv2d(\n  4, 6, kernel_size=(1, 1), stride=(1, 1), padding=(0, 0), groups=2, mo"
        )

    def test_it_is_a_linear_layer_on_every_position(self) -> None:
        layer, x = layers.PointwiseConv3d(4, 6), torch.randn(2, 4, 3, 4, 5)
        linear = nn.functional.linear(x.movedim(1, -1), layer.conv.weight.flatten(1), layer.conv.bias)
        assert torch.allclose(layer(x), linear.movedim(-1, 1), atol=1e-6)

    def test_more_taps_are_refused(self) -> None:
        sentence = r"PointwiseConv2d: a pointwise convolution has one tap: got kernel_size \(3, 1\), expected 1"
        with pytest.raises(InvalidArgument, match=sentence):
            layers.PointwiseConv2d(4, 4, (3, 1))


class TestFullMap(LayerSuite):
    name = "full_map"
    typical: ClassVar[dict[str, Any]] = {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": (7, 8),
        "padding": (0, 0),
        "dilation": (1, 1),
    }
    grid: ClassVar[dict[str, list[Any]]] = {"arguments": [{}, {"groups": 2}, {"kernel_size": (3, 8)}]}
    oracle = staticmethod(plain)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        dims = len(arguments["kernel_size"])
        return {"padding": (0,) * dims, "dilation": (1,) * dims}, {}, {}

    @classmethod
    def strategy(cls, dims: int) -> Any:
        """Maps of the kernel's size, or a little larger."""
        drawn = super().strategy(dims)
        return drawn.map(
            lambda case: replace(case, size=tuple(k + case.seed % 3 for k in case.arguments["kernel_size"]))
        )

    def test_repr_shows_arguments_and_mode(self) -> None:
        assert "FullMapConv1d(\n  4, 6, kernel_size=(9,), stride=(1,)" in repr(layers.FullMapConv1d(4, 6, 9))

    @pytest.mark.parametrize("dims", [1, 2, 3])
    @pytest.mark.parametrize("bias", [True, False])
    def test_it_is_flatten_and_linear(self, dims: int, bias: bool) -> None:
        size = (3, 4, 5)[:dims]
        linear = nn.Linear(2 * torch.Size(size).numel(), 6, bias=bias, dtype=torch.float64)
        layer = layers.find("full_map", dims).from_linear(linear, 2, size)
        x = normal(3, 2, *size)
        same_values(layer(x).flatten(1), linear(x.flatten(1)))
        again = layer.as_linear()
        assert type(again) is nn.Linear
        assert repr(again) == repr(linear)
        for name, tensor in linear.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor)
        same_values(layer.fold()(x).flatten(1), linear(x.flatten(1)))

    def test_with_groups_it_is_a_grouped_linear(self) -> None:
        layer, x = layers.FullMapConv2d(4, 6, (3, 5), groups=2, dtype=torch.float64), normal(2, 4, 3, 5)
        linear = layer.as_linear()
        assert type(linear) is GroupedLinear
        same_values(linear(x.flatten(1)), layer(x).flatten(1))

    def test_on_a_larger_map_it_slides(self) -> None:
        layer = layers.FullMapConv2d(2, 3, (3, 4), dtype=torch.float64)
        x = normal(1, 2, 5, 6)
        same_values(layer(x)[..., 2, 1], layer(x[..., 2:5, 1:5]).flatten(1))

    def test_its_errors(self) -> None:
        sentence = (
            "FullMapConv2d: the kernel of a full-map convolution is the map itself: got padding=.*, dilation=.*exp"
        )
        for options in ({"padding": 1}, {"padding": "same"}, {"dilation": 2}):
            with pytest.raises(InvalidArgument, match=sentence):
                layers.FullMapConv2d(2, 3, 4, **options)
        with pytest.raises(
            InvalidArgument, match="fully connected layer does not read this map: got 24 inputs in 1 gr"
        ):
            layers.FullMapConv2d.from_linear(nn.Linear(24, 3), 2, (3, 5))
        with pytest.raises(NotFoldable, match="it is not linear, or its forward is not known to convfold"):
            layers.FullMapConv2d.from_linear(nn.ReLU(), 2, (3, 5))
