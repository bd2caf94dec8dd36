"""Fire's expand unit: a 1x1 and a k x k on one input, concatenated; a ReLU after commutes with that."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from blocks.cases import Case, cases, normal
from blocks.contract import same_values
from blocks.plain import conv, look_through, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument
from support.make import randomise


def halves(module: Any, case: Case, x: Tensor) -> Tensor:
    a, wide = case.arguments, padded(x, case.arguments)
    small = conv(look_through(wide, a), module.point.weight, module.point.bias)
    large = conv(wide, module.dense.weight, module.dense.bias, a["stride"], a["dilation"])
    return torch.cat([small, large], 1)


@st.composite
def configurations(draw: DrawFn, dims: int) -> Case:
    case = draw(cases("fire", dims, lambda draw, kernel: {}))
    outputs = draw(st.integers(2, 6))
    arguments = {**case.arguments, "groups": 1, "out_channels": outputs}
    share = draw(st.none() | st.integers(1, outputs - 1))
    return Case("fire", dims, arguments, {"pointwise": share}, case.size, case.seed)


class TestFire(BlockSuite):
    name = "fire"
    pays = False
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"stride": (2, 2)}, {"kernel_size": (5, 1), "padding": (2, 0)}],
        "pointwise": [None, 1, 3],
    }
    oracle = staticmethod(halves)

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        return configurations(dims)

    def test_the_first_rows_of_the_fold_have_one_tap(self) -> None:
        weight = blocks.FireConv2d(4, 6, (3, 5), pointwise=2, dtype=torch.float64).fold().weight
        taps = weight.abs().amax(1) > 0
        assert taps.sum((1, 2)).tolist() == [1, 1, 15, 15, 15, 15]
        assert bool(taps[:2, 1, 2].all())

    def test_relu_of_the_halves_is_relu_of_the_fold(self) -> None:
        module = randomise(blocks.FireConv2d(4, 6, 3, padding=1).double(), torch.Generator().manual_seed(0))
        x = normal(2, 4, 7, 8)
        relu = nn.ReLU()
        a = module._placed(module.point, ((0, 0), (0, 0)))
        point = nn.functional.conv2d(x, a.weight, a.bias)
        dense = nn.functional.conv2d(x, module.dense.weight, module.dense.bias, padding=1)
        apart = torch.cat([relu(point), relu(dense)], 1)
        assert (apart == 0).any()
        same_values(relu(module.fold()(x)), apart)

    def test_its_errors(self) -> None:
        with pytest.raises(InvalidArgument, match="FireConv2d: fire has no groups: got 2, expected 1"):
            blocks.FireConv2d(4, 4, 3, groups=2)
        for share in (0, 4, 1.5):
            with pytest.raises(
                InvalidArgument, match=rf"pointwise leaves one half empty: got {share}, expected from 1 to 3"
            ):
                blocks.FireConv2d(4, 4, 3, pointwise=share)
        with pytest.raises(InvalidArgument, match="pointwise leaves one half empty: got 0"):
            blocks.FireConv2d(4, 1, 3)
        with pytest.raises(InvalidArgument, match="it cannot start from a given kernel"):
            blocks.FireConv2d(4, 4, 3).start(normal(4, 4, 3, 3))
