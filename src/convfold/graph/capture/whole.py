"""Capturing a model as a whole."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves

from convfold.errors import InvalidArgument
from convfold.graph.capture.alternatives import add_alternatives
from convfold.graph.capture.checks import check_tensors
from convfold.graph.capture.conditions import conditions_of
from convfold.graph.capture.constants import Constants
from convfold.graph.capture.copying import hooked_paths, traced_copy
from convfold.graph.capture.export import Exported, export, placeholders
from convfold.graph.capture.flatten import Flat, flattened
from convfold.graph.capture.marks import Leaf, Recorder, map_tree
from convfold.graph.capture.places import line_of
from convfold.graph.capture.translate import Translation
from convfold.graph.captured import Call, Captured, Constant, Ref, Step
from convfold.graph.inputs import ExampleInputs, does_not_run
from convfold.graph.sizes import Sizes

__all__ = ["capture", "check_runs"]


def capture(model: nn.Module, given: ExampleInputs) -> Captured:
    """The program of `model` in eval mode on the example inputs `given`; the model itself is left as it is.

    Raises InvalidArgument for weights that have no plain values, for inputs that the model does not run on, and,
    with operator and line, for what torch cannot export (a branch on the data, an unknown operator).
    """
    check_tensors(model)
    copied, recorder = traced_copy(model), Recorder()
    recorder.wrap(copied)
    try:
        exported = export(copied, given, recorder)
    except InvalidArgument:
        check_runs(model, given)
        raise
    symbols, example = _symbols(exported)
    flat = flattened(exported.program.graph_module)
    _check_data(flat, symbols)
    constants = Constants()
    translation = Translation(flat, Sizes(example), constants, recorder)
    names = _bind_inputs(model, exported, translation)
    translation.run()
    calls = _calls(recorder, translation)
    _outputs(calls, translation)
    program, steps = translation.values.program, translation.values.steps
    for record in recorder.records:
        translation.state.assign(record)
    translation.state.check(program.outputs, steps, constants.steps)
    fixed, asked = conditions_of(model, exported, given)
    captured = Captured(
        model=model,
        program=program,
        steps=steps,
        home=translation.values.home,
        calls=calls,
        sizes=translation.values.dims,
        tensor=constants,
        names=names,
        computed=constants.steps,
        writes=dict(translation.state.calls),
        symbols=symbols,
        example=example,
        hooked=hooked_paths(model),
        limits=(*exported.limits, *(f"Captured where {condition.said}." for condition in asked)),
        conditions=(*fixed, *asked),
    )
    for module in copied.modules():
        module.__dict__.pop("forward", None)
    add_alternatives(model, copied, captured.program, captured.steps, calls, constants)
    return captured


def check_runs(model: nn.Module, given: ExampleInputs) -> None:
    """Raise InvalidArgument where the model in eval mode does not run on the inputs."""
    copied = traced_copy(model, own_buffers=True)
    try:
        with torch.no_grad():
            given.call(copied)
    except Exception as error:
        raise does_not_run(model, given, error) from error


def _symbols(exported: Exported) -> tuple[dict[Any, tuple[int, int]], dict[Any, int]]:
    """Where each symbol is found among the inputs, and its value there."""
    symbols: dict[Any, tuple[int, int]] = {}
    example: dict[Any, int] = {}
    for index, (node, tensor) in enumerate(zip(placeholders(exported.program), exported.tensors, strict=True)):
        for axis, size in enumerate(node.meta["val"].shape):
            found = size.node.expr if isinstance(size, torch.SymInt) else size
            if isinstance(found, sympy.Symbol) and found not in symbols:
                symbols[found] = (index, axis)
                example[found] = int(tensor.shape[axis])
    return symbols, example


def _check_data(flat: Flat, symbols: dict[Any, tuple[int, int]]) -> None:
    """Refuse sizes that only the data tell."""
    for node in flat.nodes:
        value = node.meta.get("val")
        sizes = [
            size
            for leaf in tree_leaves(value)
            for size in (leaf.shape if isinstance(leaf, Tensor) else (leaf,))
            if isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool))
        ]
        if any(size.node.expr.free_symbols - symbols.keys() for size in sizes):
            raise InvalidArgument(
                f"the result of {node.target} has a size that depends on the data", where=line_of(node)
            )


def _bind_inputs(model: nn.Module, exported: Exported, translation: Translation) -> dict[Hashable, str]:
    """Bind the graph's inputs: parameters and buffers by name, the rest as inputs; returns the names."""
    names: dict[Hashable, str] = {}
    program = exported.program
    listed = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    held = dict(listed)
    first = {id(tensor): name for name, tensor in reversed(listed)}
    inputs = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        node = inputs[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            translation.storage.bind(node, translation.values.input(node.meta["val"]))
            continue
        name = str(spec.target).removeprefix("model.")
        if name in held:
            name = first[id(held[name])]  # a tied weight has the first of its names
            names[name] = name
            constant = translation.constants.hold(name, held[name])
            translation.state.hold(node, constant, name)
            translation.storage.bind(node, constant)
        else:
            tensor = program.constants.get(str(spec.target), program.state_dict.get(str(spec.target)))
            bound: Any = tensor
            if isinstance(tensor, Tensor):
                bound = translation.constants.hold(("held", str(spec.target)), tensor)
                translation.state.hold(node, bound, name)
            translation.storage.bind(node, bound)
    return names


def _calls(recorder: Recorder, translation: Translation) -> list[Call]:
    """The calls whose tensors are all known; one inside a region that is not looked into has none."""
    calls: list[Call] = []

    def leaf(value: Any) -> Any:
        return translation.marked[value.key] if isinstance(value, Leaf) else value

    for record in recorder.records:
        if not record.finished:
            continue
        try:
            args, kwargs, output = map_tree(leaf, (record.args, record.kwargs, record.output))
        except KeyError:
            continue
        calls.append(Call(record.number, record.path, record.parent, args, kwargs, output))
    return calls


def _outputs(calls: list[Call], translation: Translation) -> None:
    """The program's outputs: the tensors that the root call returns; a constant becomes a value."""
    values = translation.values

    def output(leaf: Any) -> Any:
        if isinstance(leaf, Constant):
            # What an operator gave was a tensor of its own at each run, which its receiver may write to.
            computed = leaf.key in translation.constants.steps
            target = torch.ops.aten.clone.default if computed else torch.ops.aten.alias.default
            step = Step(target, (leaf,), {})
            leaf = values.opaque(None, step, translation.constants.meta(leaf.key), 0)
        if isinstance(leaf, Ref):
            values.program.outputs += (leaf.value,)
        return leaf

    calls[0] = replace(calls[0], output=map_tree(output, calls[0].output))
