"""The contract of the blocks, for the layers that are one convolution; and what both kinds of layers must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

import convfold
from blocks.cases import Case, cases, normal
from blocks.contract import gradients, same_values
from blocks.suite import BlockSuite, run
from convfold import layers

__all__ = ["LayerCase", "LayerSuite", "configurations", "gradients_of", "kept"]


@dataclass(frozen=True)
class LayerCase(Case):
    """One configuration of one layer."""

    def fresh(self, **more: Any) -> Any:
        return layers.build(self.block, self.dims, **self.arguments, **self.options, **{"dtype": self.dtype, **more})

    @property
    def whole(self) -> dict[str, Any]:
        defaults = {"stride": (1,) * self.dims, "dilation": (1,) * self.dims, "groups": 1, "padding_mode": "zeros"}
        return {**defaults, **self.arguments, **self.folded}


Change = Callable[[DrawFn, dict[str, Any]], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]


@st.composite
def configurations(draw: DrawFn, name: str, dims: int, change: Change, kernels: Any = None) -> LayerCase:
    """Any arguments of nn.Conv; `change` gives those to replace, the layer's options, and the fold's own arguments."""
    case = draw(cases(name, dims, lambda draw, kernel: {}, kernels))
    replaced, options, folded = change(draw, case.arguments)
    arguments = {**case.arguments, **replaced}
    return LayerCase(name, dims, arguments, options, case.size, case.seed, folded=folded)


def kept(groups: int, index: list[int], inner: int) -> int:
    """The most groups in which a shuffle of `inner` channels stays: tried one by one."""
    for g in range(groups, 0, -1):
        width = inner // g
        if groups % g == 0 and all(source // width == place // width for place, source in enumerate(index)):
            return g
    raise AssertionError("one group holds everything")


def gradients_of(module: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum of ``function(x)``, which uses the module's parameters."""

    class As(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

        def named_parameters(self, *args: Any, **options: Any) -> Any:
            return module.named_parameters(*args, **options)

        def zero_grad(self, set_to_none: bool = True) -> None:
            module.zero_grad(set_to_none)

    with torch.no_grad():
        shape = function(x).shape
    return gradients(As(), x, normal(*shape, seed=7))


class LayerSuite(BlockSuite):
    """Inherit, name the layer, say how its arguments are drawn; `oracle` is its equation in torch.nn.functional."""

    kind: ClassVar[type[Case]] = LayerCase
    pays: ClassVar[bool] = False
    kernels: ClassVar[Any] = None
    # The blocks' tests compile what the layers are made of, at several seconds each.
    test_compiles_as_one_graph_forward_and_backward: ClassVar[None] = None  # type: ignore[assignment]

    @staticmethod
    def change(draw: Any, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {}

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        kernels = None if cls.kernels is None else st.just((cls.kernels,) * dims)
        return configurations(cls.name, dims, cls.change, kernels)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_gradients_are_those_of_its_equation(self, dims: int) -> None:
        def test(case: LayerCase) -> None:
            module, x = case.build(), case.input()
            found = gradients(module, x, normal(*module(x).shape, seed=7))
            truth = gradients_of(module, lambda x: self.oracle(module, case, x), x)
            for name, gradient in truth.items():
                least = 1e-3 * max(g.abs().max().item() for g in truth.values())
                same_values(found[name], gradient, ceiling=1e-10, least=least)

        run(self.strategy(dims), test, max(self.examples // 2, 1))

    @pytest.mark.parametrize("mode", ["feature", "kernel"])
    def test_a_sample_without_a_batch_axis(self, mode: str) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        module.mode = mode
        same_values(module(x[0]), module(x)[0])

    def test_it_runs_as_it_is_written_by_default(self) -> None:
        assert self.make().fresh().mode == "feature"

    def test_the_receptive_field_is_that_of_the_fold(self) -> None:
        module = self.make().build()
        folded = module.fold()
        spans = tuple(d * (k - 1) + 1 for k, d in zip(folded.kernel_size, folded.dilation, strict=True))
        assert module.receptive_field == spans

    def test_convfold_kernel_and_verify_take_it(self) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        weight, bias = convfold.kernel(module)
        folded = module.fold()
        same_values(weight.detach(), folded.weight)
        same_values(bias.detach(), folded.bias)
        assert convfold.verify(module, folded, x)
        with torch.no_grad():
            folded.bias[0] += 1e-6
        assert not convfold.verify(module, folded, x)
