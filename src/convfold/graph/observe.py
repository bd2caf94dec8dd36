"""Observing the flow of values: by one recorded run, else by a symbolic trace, else by nn.Sequential alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convfold.algebra import has_hooks, has_op, is_mixed, twin
from convfold.errors import InvalidArgument
from convfold.graph.flow import Call, Flow
from convfold.graph.inputs import ExampleInputs, does_not_run, example_inputs

__all__ = ["flow_of", "module_paths"]


def module_paths(model: nn.Module) -> dict[nn.Module, str]:
    """Every module under the first of its names."""
    return {module: path for path, module in model.named_modules()}


def _is_unit(module: nn.Module) -> bool:
    """Whether the flow regards this module as one operator: a linear one, or a mixture of such; not a Sequential."""
    return (has_op(module) or is_mixed(module)) and not isinstance(module, nn.Sequential)


def flow_of(model: nn.Module, inputs: object = None) -> Flow:
    """The flow of values between the linear modules of `model` in eval mode.

    With example `inputs` one forward pass is recorded, under no_grad. Without, a symbolic trace is tried, and
    when the model cannot be traced only nn.Sequential containers are read. Both run the model's own code, on a
    copy. Raises InvalidArgument when the model does not run on the inputs, or has lazy parameters.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise InvalidArgument(
                "the parameter has no shape yet", where=name, hint="Run the lazy module once on a batch first."
            )
    flow = _seen(model, inputs)
    flow.watched = {path for module, path in module_paths(model).items() if path and has_hooks(module)}
    return flow


def _seen(model: nn.Module, inputs: object) -> Flow:
    if inputs is not None:
        return _record(twin(model).eval(), example_inputs(model, inputs))
    try:
        return _trace(twin(model).eval())
    except Exception:  # a tracer refuses with any error of the model's own code
        return _containers(model)


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """By the identity of each parameter and buffer, the outermost linear modules that hold it."""
    owners: dict[int, list[str]] = defaultdict(list)
    inside: list[str] = []
    for module, path in module_paths(model).items():
        if _is_unit(module) and not any(outer == "" or path.startswith(f"{outer}.") for outer in inside):
            inside.append(path)
            for tensor in (*module.parameters(), *module.buffers()):
                owners[id(tensor)].append(path)
    return owners


class _Recorder(TorchDispatchMode):
    """Notes which call or operator reads each tensor. Tensors are kept alive, so that identities stay unique."""

    def __init__(self, owners: dict[int, list[str]]) -> None:
        super().__init__()
        self.owners = owners
        self.flow = Flow(how="a recorded run")
        self.stack: list[int] = []
        self.alive: list[Tensor] = []

    def value(self, tensor: Tensor) -> int:
        self.alive.append(tensor)
        return id(tensor)

    def use(self, tensor: Tensor, name: str) -> None:
        self.flow.uses[self.value(tensor)].append(self.stack[0] if self.stack else name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.stack:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor):
                    self.use(leaf, str(func))
                    self.flow.exposed.update(self.owners.get(id(leaf), ()))
        result = func(*args, **kwargs)
        self.alive += [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return result

    def enter(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        shape = tuple(tensors[0].shape) if tensors else None
        self.stack.append(len(self.flow.calls))
        self.flow.calls.append(Call(path, tuple(self.value(t) for t in tensors), 0, shape))
        if len(self.stack) == 1:
            for tensor in tensors:
                self.use(tensor, path)

    def leave(self, result: Any) -> None:
        call = self.flow.calls[self.stack.pop()]
        output = self.value(result) if isinstance(result, Tensor) else 0
        self.flow.calls[self.flow.calls.index(call)] = Call(call.path, call.inputs, output, call.shape)


def _record(model: nn.Module, given: ExampleInputs) -> Flow:
    recorder = _Recorder(_owners(model))
    for module, path in module_paths(model).items():
        if _is_unit(module):
            before = _entering(recorder, path)
            module.register_forward_pre_hook(before, prepend=False, with_kwargs=True)
            module.register_forward_hook(_leaving(recorder), prepend=True)
    try:
        with torch.no_grad(), recorder:
            result = given.call(model)
    except Exception as error:
        raise does_not_run(model, given, error) from error
    for leaf in tree_leaves(result):
        if isinstance(leaf, Tensor):
            recorder.flow.uses[id(leaf)].append("the model's output")
    return recorder.flow


def _entering(recorder: _Recorder, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorder.enter(path, args, kwargs)

    return hook


def _leaving(recorder: _Recorder) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        recorder.leave(output)

    return hook


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_unit(m) or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> Flow:
    paths = module_paths(model)
    if _is_unit(model):
        return Flow([Call("", (0,), 1)], how="the module itself")
    graph = _Tracer().trace(model)
    flow, owners = Flow(how="a symbolic trace"), _owners(model)
    held = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    numbers = {node: index for index, node in enumerate(graph.nodes, start=1)}
    calls: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if _is_unit(module):
                calls[node] = len(flow.calls)
                inputs = tuple(numbers[source] for source in node.all_input_nodes)
                flow.calls.append(Call(paths[module], inputs, numbers[node]))
        elif node.op == "get_attr" and str(node.target) in held:
            flow.exposed.update(owners.get(id(held[str(node.target)]), ()))
    for node in graph.nodes:
        for user in node.users:
            flow.uses[numbers[node]].append(calls.get(user, str(user.target)))
    return flow


def _containers(model: nn.Module) -> Flow:
    """Neighbours in nn.Sequential: all that is certain without seeing the forward."""
    flow, value = Flow(how="nn.Sequential containers"), 0
    paths = module_paths(model)
    listed = [s for s in model.modules() if type(s).forward is nn.Sequential.forward]
    held = [child for s in listed for child in s]
    for sequence in listed:
        previous: int | None = None
        for child in sequence:
            value += 2
            # A module held twice, or one that somebody may call from outside, keeps its neighbours unknown.
            if not _is_unit(child) or held.count(child) > 1:
                if previous is not None:
                    flow.uses[flow.calls[previous].output].append(type(child).__name__)
                previous = None
                continue
            index = len(flow.calls)
            source = flow.calls[previous].output if previous is not None else value
            flow.calls.append(Call(paths[child], (source,), value + 1))
            if previous is not None:
                flow.uses[source].append(index)
            previous = index
        if previous is not None:
            flow.uses[flow.calls[previous].output].append("the container's output")
    return flow
