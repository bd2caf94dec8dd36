"""Modules that give their own equation: another definition of what they return."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, defines_op, frozen, has_hooks, kernel, op, twin
from convfold.algebra.readings.tensors import to_meta
from convfold.errors import ConvfoldError
from convfold.graph.capture.constants import Constants
from convfold.graph.capture.operation import Meta
from convfold.graph.captured import Call, Ref
from convfold.graph.maps import Given, Map
from convfold.graph.program import Linear, Program, ShiftGiven, Term

__all__ = ["add_alternatives"]


@dataclass
class _Equation:
    """The kernel of one module, composed in float64 when it is asked for."""

    module: nn.Module
    found: dict[bool, Conv] = field(default_factory=dict)

    def __call__(self) -> Conv:
        if True not in self.found:
            with torch.no_grad():
                exact = op(twin(self.module).eval().to(torch.float64))
                conv = kernel(frozen(exact, torch.float64))
            assert isinstance(conv, Conv)
            self.found[True] = conv
        return self.found[True]


def _reader(equations: dict[str, _Equation]) -> Callable[[Hashable, torch.dtype | None], Tensor]:
    def read(key: Hashable, dtype: torch.dtype | None) -> Tensor:
        assert isinstance(key, tuple)
        conv = equations[key[1]]()
        tensor = conv.weight if key[0] == "op.weight" else conv.bias
        assert tensor is not None
        return tensor if dtype is None else tensor.to(dtype)

    return read


def _shape(module: nn.Module) -> Conv | None:
    """The kernel of the module's equation, on the meta device; None where it gives none."""
    try:
        with torch.no_grad():
            found = kernel(to_meta(op(module)))
    except (ConvfoldError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    return found if isinstance(found, Conv) and found.padding_mode == "zeros" else None


def add_alternatives(
    model: nn.Module, copy: nn.Module, program: Program, calls: list[Call], constants: Constants
) -> None:
    """Give the program, for each call of a module with an ``op()``, the one convolution that this says.

    `copy` is the model in eval mode, by whose modules the equations are read; weights come from `model` later.
    """
    equations: dict[str, _Equation] = {}
    for call in calls:
        module = copy.get_submodule(call.path)
        if not defines_op(module) or any(has_hooks(inner) for inner in model.get_submodule(call.path).modules()):
            continue
        if len(call.args) != 1 or call.kwargs or not isinstance(call.args[0], Ref) or not isinstance(call.output, Ref):
            continue
        conv = _shape(module)
        rank = len(program.values[call.output.value].shape)
        if conv is None or rank not in (len(conv.window) + 2, len(conv.window) + 1):
            continue
        axis = rank - len(conv.window) - 1
        if conv.out_channels != program.values[call.output.value].shape[axis]:
            continue
        equations[call.path] = _Equation(model.get_submodule(call.path))
        keys = (("op.weight", call.path), ("op.bias", call.path))
        constants.metas[keys[0]] = Meta(tuple(conv.weight.shape), conv.weight.dtype)
        shift = None if conv.bias is None else ShiftGiven(keys[1])
        m = Map("conv", conv.out_channels, conv.in_channels, axis, conv.window, conv.groups, Given(keys[0]))
        program.alternatives[call.output.value] = Linear(
            (Term(m, call.args[0].value),), shift, None if shift is None else axis
        )
    constants.more.update({"op.weight": _reader(equations), "op.bias": _reader(equations)})
