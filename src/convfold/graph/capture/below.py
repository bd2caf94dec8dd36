"""Capturing what can be captured below a model that cannot be captured as a whole."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from convfold.errors import InvalidArgument, Refusal
from convfold.graph.capture.copying import traced_copy
from convfold.graph.capture.whole import capture, check_runs
from convfold.graph.captured import Captured
from convfold.graph.inputs import ExampleInputs

__all__ = ["capture_below"]

_ATTEMPTS = 100


def _recording(seen: dict[str, list[ExampleInputs]], path: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        names = (*(f"input {i}" for i in range(len(args))), *(f"input '{name}'" for name in kwargs))
        seen.setdefault(path, []).append(ExampleInputs(args, kwargs, names).map(lambda t: t.detach().clone()))
        return inner(*args, **kwargs)

    return forward


def _inputs(model: nn.Module, given: ExampleInputs) -> dict[str, list[ExampleInputs]]:
    """The inputs of each call of each module, in one run of a copy."""
    copied = traced_copy(model, own_buffers=True)
    seen: dict[str, list[ExampleInputs]] = {}
    for path, module in copied.named_modules():
        if path and not isinstance(module, torch.jit.ScriptModule):
            module.__dict__["forward"] = _recording(seen, path, module.forward)
    with torch.no_grad():
        given.call(copied)
    return seen


def _alike(calls: list[ExampleInputs]) -> bool:
    """Whether all calls of a module had inputs of one form: shapes, types and other arguments."""

    def form(call: ExampleInputs) -> tuple[Any, ...]:
        leaves, tree = tree_flatten((call.args, dict(call.kwargs)))
        return (tree, [(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves])

    first = form(calls[0])
    return all(form(call) == first for call in calls[1:])


def capture_below(model: nn.Module, given: ExampleInputs) -> tuple[list[tuple[str, Captured]], list[Refusal]]:
    """The largest modules inside `model` that can be captured, by path, and why the others cannot.

    The model is run once, on a copy, to see what each module is given. A module that is called several times must
    be given inputs of one form. Raises InvalidArgument where the model does not run on the inputs.
    """
    check_runs(model, given)
    seen = _inputs(model, given)
    found: list[tuple[str, Captured]] = []
    refusals: list[Refusal] = []
    held = dict(model.named_modules())
    queue, attempts = [path for path, _ in _children(held, "")], 0
    while queue and attempts < _ATTEMPTS:
        path = queue.pop(0)
        module = held[path]
        if not any(True for _ in module.parameters()):
            continue
        calls = seen.get(path)
        if calls and _alike(calls):
            attempts += 1
            try:
                found.append((path, capture(module, calls[0])))
                continue
            except InvalidArgument as error:
                refusals.append(Refusal(type(module).__name__, str(error).rstrip("."), path))
        elif calls:
            reason = "it is called several times with inputs of different shapes"
            refusals.append(Refusal(type(module).__name__, reason, path))
        queue += [child for child, _ in _children(held, path)]
    if queue:
        refusals.append(
            Refusal(type(model).__name__, f"{len(queue)} modules inside it were not tried", hint="Capture them alone.")
        )
    return found, refusals


def _children(held: dict[str, nn.Module], path: str) -> list[tuple[str, nn.Module]]:
    prefix = f"{path}." if path else ""
    listed = {f"{prefix}{name}": child for name, child in held[path].named_children()}
    return [(name, child) for name, child in listed.items() if name in held]
