"""ExpandNets: a chain of wider linear layers."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from blocks.cases import Case, cases, normal
from blocks.contract import check
from blocks.plain import conv, padded
from blocks.suite import BlockSuite, run
from convfold import blocks
from convfold.errors import InvalidArgument


def layers(module: Any, case: Case, x: Tensor) -> Tensor:
    if not case.dims:
        for layer in module.layers:
            x = x @ layer.weight.T + (0 if layer.bias is None else layer.bias)
        return x
    a, x = case.arguments, padded(x, case.arguments)
    strided = len(module.layers) - 1 if module.form == "ck" else 1
    for index, layer in enumerate(module.layers):
        # A layer keeps the dilation only on axes that it widens; a one-tap axis has none to keep.
        stride = a["stride"] if index == strided else 1
        x = conv(x, layer.weight, layer.bias, stride, a["dilation"], a["groups"])
    return x


@st.composite
def linear_cases(draw: DrawFn) -> Case:
    arguments = {"in_features": draw(st.integers(1, 5)), "out_features": draw(st.integers(1, 5))}
    options = {"expansion": draw(st.integers(1, 4)), "depth": draw(st.integers(1, 4))}
    bias = draw(st.booleans())
    return Case("expandnet", 0, {**arguments, "bias": bias}, options, (), draw(st.integers(0, 999)))


def stacked_cases(dims: int) -> st.SearchStrategy[Case]:
    """Kernels that layers of 3x3 can reach, which the random ones of the other cases seldom are."""
    longest = {1: 9, 2: 7, 3: 5}[dims]
    odd = st.tuples(*[st.sampled_from(range(1, longest + 1, 2))] * dims).filter(lambda k: max(k) >= 5)

    def stack(draw: DrawFn, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"form": "ck", "expansion": draw(st.integers(1, 2))}

    return cases("expandnet", dims, stack, odd)


class TestExpandNet(BlockSuite):
    name = "expandnet"
    typical_options: ClassVar[dict[str, Any]] = {"expansion": 2}
    grid: ClassVar[dict[str, Any]] = {
        "form": ["cl", "ck"],
        "expansion": [1, 3],
        "arguments": [{"kernel_size": (5, 5)}, {"kernel_size": (3, 7)}],
    }
    oracle = staticmethod(layers)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        stackable = all(k % 2 for k in kernel) and max(kernel) >= 5
        return {
            "form": draw(st.sampled_from(["cl", "ck"])) if stackable else "cl",
            "expansion": draw(st.integers(1, 3)),
        }

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_stacked_3x3_layers(self, dims: int) -> None:
        run(stacked_cases(dims), lambda case: check(case, layers), max(3, self.examples // 2))

    def test_linear(self) -> None:
        run(linear_cases(), lambda case: check(case, layers), self.examples)

    def test_linear_takes_tokens(self) -> None:
        module = blocks.ExpandNetLinear(4, 3, dtype=torch.float64)
        x = normal(2, 5, 6, 4)
        torch.testing.assert_close(module.fold()(x), module(x), rtol=1e-12, atol=1e-13)
        assert type(module.fold()) is nn.Linear

    def test_padding_stands_first_and_the_stride_last(self) -> None:
        module = blocks.ExpandNetConv2d(4, 6, 5, stride=2, padding=2, form="ck")
        assert [layer.stride for layer in module.layers] == [(1, 1), (2, 2)]
        assert [layer.padding for layer in module.layers] == [(0, 0), (0, 0)]
        assert [layer.weight.shape[:2] for layer in module.layers] == [(16, 4), (6, 16)]

    @pytest.mark.parametrize("kernel", [4, (5, 4), 3, (1, 3)])
    def test_stacks_only_odd_kernels(self, kernel: Any) -> None:
        with pytest.raises(InvalidArgument, match=r"stacks 3x3 convolutions: got kernel_size .*expected odd sizes.*cl"):
            blocks.ExpandNetConv2d(2, 2, kernel, form="ck")

    @pytest.mark.parametrize("expansion", [0, 1.5, "4"])
    def test_refuses_widths_that_are_none(self, expansion: Any) -> None:
        with pytest.raises(InvalidArgument, match=r"expansion is no whole factor: got .*, expected an integer"):
            blocks.ExpandNetConv2d(2, 2, 3, expansion=expansion)
        with pytest.raises(InvalidArgument, match="expansion is no whole factor"):
            blocks.ExpandNetLinear(2, 2, expansion=expansion)

    def test_refuses_forms_and_depths_that_are_none(self) -> None:
        with pytest.raises(InvalidArgument, match="form is unknown: got 'fc', expected 'cl' or 'ck'"):
            blocks.ExpandNetConv2d(2, 2, 3, form="fc")
        with pytest.raises(InvalidArgument, match="depth is too small: got 0, expected at least 1"):
            blocks.ExpandNetLinear(2, 2, depth=0)
        with pytest.raises(InvalidArgument, match="expandnet has no normalisation of its own"):
            blocks.ExpandNetConv2d(2, 2, 3).start(normal(2, 2, 3, 3), None, nn.BatchNorm2d(2))
