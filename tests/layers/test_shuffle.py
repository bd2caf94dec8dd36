"""Shuffle and bottleneck: groups, dealt out again."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from blocks.cases import Case, normal
from blocks.plain import conv, padded
from convfold import layers
from convfold.errors import InvalidArgument
from layers.suite import LayerSuite, kept


def shuffled(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's own words: reshape to (groups, width), transpose, flatten."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def dealt(channels: int, groups: int) -> list[int]:
    """Which channel a shuffle puts at each place."""
    return shuffled(torch.arange(channels).reshape(1, -1, 1), groups).flatten().tolist()


def one(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    y = conv(padded(x, a), module.conv.weight, module.conv.bias, a["stride"], a["dilation"], a["groups"])
    return shuffled(y, a["groups"])


class TestShuffle(LayerSuite):
    name = "shuffle"
    typical: ClassVar[dict[str, Any]] = {**LayerSuite.typical, "groups": 2}
    grid: ClassVar[dict[str, list[Any]]] = {"arguments": [{}, {"groups": 4}, {"kernel_size": (1, 1), "groups": 1}]}
    oracle = staticmethod(one)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        groups, channels = arguments["groups"], arguments["out_channels"]
        return {}, {}, {"groups": kept(groups, dealt(channels, groups), channels)}

    def test_it_is_torch_s_own_shuffle(self) -> None:
        layer, x = layers.ShuffleConv2d(4, 12, 1, groups=4), normal(2, 4, 3, 3, dtype=torch.float32)
        assert torch.equal(layer(x), nn.ChannelShuffle(4)(layer.conv(x)))

    def test_two_in_a_row_read_every_input(self) -> None:
        """Grouped after grouped, an output sees one group; with a shuffle between, all."""
        plain = nn.Sequential(nn.Conv2d(8, 8, 1, groups=4), nn.Conv2d(8, 8, 1, groups=4))
        mixed = nn.Sequential(layers.ShuffleConv2d(8, 8, 1, groups=2), nn.Conv2d(8, 8, 1, groups=2))
        for model, reach in ((plain, 2), (mixed, 8)):
            x = torch.randn(1, 8, 1, 1, requires_grad=True)
            model(x)[0, 0].sum().backward()
            assert int((x.grad != 0).sum()) == reach


def narrow(module: Any, case: Case, x: Tensor) -> Tensor:
    a, o = case.arguments, case.options
    middle = conv(padded(x, a), module.reduce.weight, None, groups=a["groups"])
    middle = shuffled(middle, a["groups"]) if o.get("shuffle") else middle
    groups = middle.shape[1] if o.get("depthwise") else a["groups"]
    y = conv(middle, module.conv.weight, None, a["stride"], a["dilation"], groups)
    return conv(y, module.expand.weight, module.expand.bias, groups=a["groups"])


class TestBottleneck(LayerSuite):
    name = "bottleneck"
    typical_options: ClassVar[dict[str, Any]] = {"mid_channels": 2}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{"groups": 2}, {"groups": 2, "stride": (2, 1), "kernel_size": (3, 2)}],
        "mid_channels": [None, 4, 6],
        "depthwise": [False, True],
        "shuffle": [False, True],
    }
    oracle = staticmethod(narrow)

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> Any:
        groups = arguments["groups"]
        middle = groups * draw(st.integers(1, 3))
        shuffle = groups > 1 and draw(st.booleans())
        options = {"mid_channels": middle, "depthwise": draw(st.booleans()), "shuffle": shuffle}
        return {}, options, {"groups": kept(groups, dealt(middle, groups), middle) if shuffle else groups}

    def test_its_width_by_default(self) -> None:
        widths = [layers.BottleneckConv2d(8, out, 3, groups=g).mid_channels for out, g in ((64, 1), (40, 8), (8, 4))]
        assert widths == [16, 8, 4]

    def test_the_rank_is_that_of_the_channels_between(self) -> None:
        kernel = layers.BottleneckConv2d(8, 8, 3, mid_channels=3, dtype=torch.float64).fold().weight.detach()
        assert torch.linalg.matrix_rank(kernel.flatten(1)) == 3
        assert torch.linalg.matrix_rank(kernel.transpose(0, 1).flatten(1)) == 3

    def test_its_errors(self) -> None:
        sentence = r"BottleneckConv2d: groups must divide mid_channels: got groups=4 with mid_channels=6, .*are 3 and 6"
        with pytest.raises(InvalidArgument, match=sentence):
            layers.BottleneckConv2d(8, 8, 3, groups=4, mid_channels=6)
        sentence = "BottleneckConv2d: a shuffle of one group changes nothing: got shuffle=True with groups=1, expected"
        with pytest.raises(InvalidArgument, match=sentence):
            layers.BottleneckConv2d(8, 8, 3, shuffle=True)
        with pytest.raises(InvalidArgument, match=r"mid_channels is not a positive integer: got 2\.5"):
            layers.BottleneckConv2d(8, 8, 3, mid_channels=2.5)
