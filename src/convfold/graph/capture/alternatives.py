"""Modules that give their own equation: another definition of what they return."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, defines_op, frozen, has_hooks, kernel, op, twin
from convfold.algebra.readings.tensors import to_meta
from convfold.errors import ConvfoldError
from convfold.geometry import has_padding
from convfold.graph.capture.constants import Constants
from convfold.graph.captured import Call, Ref, Step
from convfold.graph.maps import Given, Map
from convfold.graph.operation import Meta, functional_name
from convfold.graph.program import Linear, Program, ShiftGiven, Spatial, Term

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
    return found if isinstance(found, Conv) else None


def _padded(program: Program, steps: dict[int, Step], source: int, conv: Conv) -> int | None:
    """The value that is `source` padded as the kernel wants it, where the graph has it: other modes than zeros.

    None where it has not, and `source` itself where nothing is padded.
    """
    if conv.padding_mode == "zeros" or not has_padding(conv.window):
        return source
    before = program.values[source].shape
    grown = tuple(n + axis.lo + axis.hi for n, axis in zip(before[-conv.dims :], conv.window, strict=True))
    pads = [side for axis in reversed(conv.window) for side in (axis.lo, axis.hi)]
    for number, node in program.nodes.items():
        if isinstance(node, Spatial) and node.source == source and program.values[number].shape[-conv.dims :] == grown:
            args = steps[number].args
            if (
                functional_name(steps[number].target) == "pad"
                and list(args[1]) == pads
                and args[2] == conv.padding_mode
            ):
                return number
    return None


def add_alternatives(
    model: nn.Module,
    copy: nn.Module,
    program: Program,
    steps: dict[int, Step],
    calls: list[Call],
    constants: Constants,
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
        source = _padded(program, steps, call.args[0].value, conv)
        if source is None:
            continue
        window = conv.window
        if source != call.args[0].value:
            window = tuple(axis.shifted(-axis.lo, -axis.hi) for axis in window)
        equations[call.path] = _Equation(model.get_submodule(call.path))
        keys = (("op.weight", call.path), ("op.bias", call.path))
        constants.metas[keys[0]] = Meta(tuple(conv.weight.shape), conv.weight.dtype)
        shift = None if conv.bias is None else ShiftGiven(keys[1])
        m = Map("conv", conv.out_channels, conv.in_channels, axis, window, conv.groups, Given(keys[0]))
        program.alternatives[call.output.value] = Linear((Term(m, source),), shift, None if shift is None else axis)
    constants.more.update({"op.weight": _reader(equations), "op.bias": _reader(equations)})
