"""The tests that every block inherits: a block's file gives its name, its options and its oracle."""

from __future__ import annotations

import copy
import io
import os
import pickle
from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import convfold
from blocks.cases import Case, Options, cases, normal
from blocks.contract import Oracle, check, gradients, operators, same_values
from convfold.errors import InvalidArgument

__all__ = ["BlockSuite", "run"]

FAST = os.environ.get("HYPOTHESIS_PROFILE", "fast") == "fast"
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def run(strategy: Any, test: Any, examples: int) -> None:
    """Check `examples` configurations of `strategy`."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=QUIET)
    @given(case=strategy)
    def inner(case: Case) -> None:
        test(case)

    inner()


class BlockSuite:
    """Inherit, name the block, say its options; `oracle` is the paper's equation."""

    name: ClassVar[str]
    kind: ClassVar[type[Case]] = Case
    # A configuration with every feature of the block, for what is tested once: 2-D.
    typical: ClassVar[dict[str, Any]] = {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "padding": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "bias": True,
        "padding_mode": "zeros",
    }
    typical_options: ClassVar[dict[str, Any]] = {}
    typical_folded: ClassVar[dict[str, Any]] = {}
    legal: ClassVar[tuple[int, ...]] = (1, 2, 3)
    # Whether one convolution costs no more than the block: only then does `convfold.fold` fold it.
    pays: ClassVar[bool] = True
    grid: ClassVar[dict[str, list[Any]]] = {}
    examples: ClassVar[int] = 8 if FAST else 200

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        raise NotImplementedError

    @staticmethod
    def oracle(module: Any, case: Case, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def make(self, dtype: torch.dtype = torch.float64, **options: Any) -> Case:
        options = {**self.typical_options, **options}
        return self.kind(self.name, 2, self.typical, options, (7, 8), 5, dtype, self.typical_folded)

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        """Configurations in `dims` dimensions."""
        make: Options = cls.options
        return cases(cls.name, dims, make)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_contract(self, dims: int) -> None:
        if dims in self.legal:
            oracle: Oracle = self.oracle
            run(self.strategy(dims), lambda case: check(case, oracle), self.examples)
        else:
            sentence = rf"the block {self.name} does not exist in {dims} dimensions: got {dims}, expected one of"
            with pytest.raises(InvalidArgument, match=sentence):
                convfold.blocks.build(self.name, dims, 4, 4, 3)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_a_fold_in_low_precision_is_the_double_fold_cast_once(self, dtype: torch.dtype) -> None:
        module = self.make(dtype).build()
        folded, truth = module.fold(), copy.deepcopy(module).double().fold()
        assert folded.weight.dtype == folded.bias.dtype == dtype
        assert torch.equal(folded.weight, truth.weight.to(dtype))
        assert torch.equal(folded.bias, truth.bias.to(dtype))

    @pytest.mark.parametrize("mode", ["feature", "kernel"])
    def test_every_option_can_be_built_and_run_in_every_mode(self, mode: str) -> None:
        for values in product(*self.grid.values()):
            options = dict(zip(self.grid, values, strict=True))
            own = options.pop("arguments")
            for bias, padding_mode in product((True, False), ("zeros", "circular")):
                arguments = {**self.typical, **own, "bias": bias, "padding_mode": padding_mode}
                case = self.kind(self.name, 2, arguments, options, (7, 8))
                module = case.build()
                module.mode = mode
                same_values(module(case.input()), self.oracle(module, case, case.input()))

    def test_state_dict_copies_and_pickles_keep_the_function(self) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        y = module(x)
        other = case.fresh().eval()
        other.load_state_dict(module.state_dict())
        buffer = io.BytesIO()
        torch.save(module, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        for twin in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
            assert torch.equal(twin(x), y)
            assert repr(twin) == repr(module)
            assert torch.equal(twin.fold().weight, module.fold().weight)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_moves_to_a_dtype_with_everything_it_holds(self, dtype: torch.dtype) -> None:
        module = self.make().build().to(dtype)
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {dtype}
        x = self.make(dtype).input()
        for mode in ("feature", "kernel"):
            module.mode = mode
            assert module(x).dtype == dtype
        # There and back, and the block computes what it did before within the coarser precision.
        assert module.double().fold().weight.dtype == torch.float64

    def test_repr_shows_arguments_and_mode(self) -> None:
        module = self.make().fresh()
        text = repr(module)
        assert text.startswith(f"{type(module).__name__}(")
        assert "4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)" in text
        assert f"mode={module.mode!r}" in text

    @pytest.mark.parametrize("mode", ["feature", "kernel"])
    def test_compiles_as_one_graph_forward_and_backward(self, mode: str) -> None:
        torch.compiler.reset()
        case = self.make()
        module, x = case.build(), case.input()
        module.mode = mode
        weights = normal(*module(x).shape, seed=9)
        eager = gradients(module, x, weights)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        same_values(compiled(x), module(x))
        module.zero_grad()
        x = x.clone().requires_grad_()
        (compiled(x) * weights).sum().backward()
        same_values(x.grad, eager["input"], ceiling=1e-10)
        for name, parameter in module.named_parameters():
            same_values(parameter.grad, eager[name], ceiling=1e-10)

    @pytest.mark.parametrize("mode", ["feature", "kernel"])
    def test_exports(self, mode: str) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        module.mode = mode
        exported = torch.export.export(module, (x,)).module()
        same_values(exported(x), module(x))

    def test_channels_last_is_kept(self) -> None:
        case = self.make()
        module = case.build().to(memory_format=torch.channels_last)
        x = case.input().contiguous(memory_format=torch.channels_last)
        folded = module.fold()
        assert folded.weight.is_contiguous(memory_format=torch.channels_last)
        # A kernel of one input channel is contiguous in either format: told apart by its strides.
        last = torch.empty(folded.weight.shape).to(memory_format=torch.channels_last)
        assert folded.weight.stride() == last.stride() != torch.empty(folded.weight.shape).stride()
        same_values(folded(x), case.build()(case.input()))

    def test_kernel_mode_runs_one_convolution_over_the_input(self) -> None:
        case = self.make()
        module, x = case.build(), case.input(batch=11)
        module.mode = "kernel"
        assert operators(module, x).convolved.count(11) == 1
        assert operators(module.fold(), x).convolved == [11]

    def test_a_folded_module_learns(self) -> None:
        case = self.make()
        folded, x = case.build().fold(), case.input()
        before = folded(x)
        optimiser = torch.optim.SGD(folded.parameters(), lr=0.1)
        before.square().mean().backward()
        optimiser.step()
        assert not torch.allclose(folded(x), before, rtol=1e-3)

    def test_frozen_blocks_fold_frozen(self) -> None:
        module = self.make().build().requires_grad_(False)
        assert [p.requires_grad for p in module.fold().parameters()] == [False, False]

    def test_every_parameter_gets_a_gradient_in_training(self) -> None:
        module = self.make().fresh().train()
        module(self.make().input()).square().sum().backward()
        missing = [name for name, p in module.named_parameters() if p.grad is None]
        assert not missing, f"unused in training, DistributedDataParallel stops on them: {missing}"

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        case = self.make()
        module = case.build()
        module(case.input())
        module.fold()
        assert capfd.readouterr() == ("", "")

    def test_training_flag_is_kept(self) -> None:
        module = self.make().build()
        assert not module.fold().training
        for inner in module.modules():
            if not isinstance(inner, nn.modules.batchnorm._BatchNorm):
                inner.training = True
        assert module.fold().training

    def test_no_tensor_is_held_outside_the_state(self) -> None:
        # A plain tensor attribute would stay behind on .to() and in load_state_dict.
        for inner in self.make().fresh().modules():
            assert not [name for name, value in vars(inner).items() if isinstance(value, torch.Tensor)]

    def test_the_block_is_verified_equal_to_its_fold(self) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        plain = convfold.fold(module, x)
        if not self.pays:
            assert type(plain) is type(module)
            assert "it would not be cheaper" in str(convfold.plan(module, x))
            plain = module.fold()
        assert type(plain) is nn.Conv2d
        assert convfold.verify(module, plain, x)
        with torch.no_grad():
            plain.weight[0, 0, 0, 0] += 1e-3
        assert not convfold.verify(module, plain, x)
