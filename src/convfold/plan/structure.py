"""What a fold changed in a model's structure, as plain values: so that it can be repeated without folding again."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from convfold.algebra import twin
from convfold.algebra.grouped import GroupedLinear
from convfold.errors import InvalidArgument
from convfold.plan.emission.rewritten import Rewritten, rewrite

__all__ = ["apply_changes", "changes"]

Change = dict[str, Any]

# Modules that a fold puts in the places of others, by name: a file names none but these.
MADE: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        nn.Identity,
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
        GroupedLinear,
    )
}


def changes(original: nn.Module, folded: nn.Module) -> list[Change]:
    """Every module of `folded` that is not the original's: replaced by another, or with another forward.

    Outermost first. Each is a dict of plain values: its `path`, the `was` class, and either the `made` class with
    its arguments or the `forward` that was written, with the parameters and buffers that it brought along.
    """
    before = dict(original.named_modules(remove_duplicate=False))
    found: list[Change] = []
    inside: list[str] = []
    for path, module in folded.named_modules(remove_duplicate=False):
        if any(path.startswith(f"{outer}.") or outer == "" for outer in inside):
            continue
        old = before.get(path)
        was = type(old).__name__ if old is not None else ""
        if type(module).__name__ in MADE and (type(module) is not type(old) or _arguments(module) != _arguments(old)):
            found.append({"path": path, "was": was, **_made(module)})
            inside.append(path)
        elif isinstance(module, Rewritten):
            assert isinstance(module, nn.Module)
            own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
            held = set() if old is None else {*old._parameters, *old._buffers}
            tensors = {name: _tensor(value) for name, value in own.items() if name not in held}
            found.append({"path": path, "was": was, "forward": module.source, "tensors": tensors})
    return found


def _arguments(module: nn.Module | None) -> dict[str, Any]:
    """What the module was built with, as far as it keeps it under the same names."""
    if module is None or type(module).__name__ not in MADE or isinstance(module, nn.Identity):
        return {}
    names = inspect.signature(type(module).__init__).parameters
    held = {name: vars(module)[name] for name in names if name in vars(module)}
    bias = module._parameters.get("bias") is not None
    return {**{name: list(v) if isinstance(v, tuple) else v for name, v in held.items()}, "bias": bias}


def _made(module: nn.Module) -> Change:
    weight = next(module.parameters(), None)
    fields: Change = {"made": type(module).__name__, "arguments": _arguments(module), "training": module.training}
    if weight is not None:
        fields |= {"dtype": str(weight.dtype).removeprefix("torch."), "requires_grad": weight.requires_grad}
    return fields


def _tensor(tensor: torch.Tensor) -> Change:
    kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"kind": kind, "shape": list(tensor.shape), "dtype": dtype, "requires_grad": tensor.requires_grad}


def apply_changes(model: nn.Module, found: list[Change]) -> nn.Module:
    """A copy of `model` with the changes made; new weights are not a number until folded ones are loaded.

    Raises InvalidArgument when the model is not of the structure that the changes were found in.
    """
    copy = twin(model)
    for change in found:
        path, (parent_path, _, name) = change["path"], change["path"].rpartition(".")
        held = dict(copy.named_modules(remove_duplicate=False))
        old = held.get(path)
        got = type(old).__name__ if old is not None else ""
        if got != change["was"] or parent_path not in held:
            raise InvalidArgument(
                f"the plan is not of this {type(model).__name__}",
                where=path,
                got=got or "no such module",
                expected=change["was"] or "a module to put it in",
                hint="Apply it to the model that it was made of, freshly built.",
            )
        if "forward" in change:
            assert old is not None
            _rewrite(old, change)
        elif path == "":
            copy = _make(change)
        else:
            held[parent_path]._modules[name] = _make(change)
    return copy


def _make(change: Change) -> nn.Module:
    arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in change["arguments"].items()}
    cls = MADE[change["made"]]
    if cls is nn.Identity:
        return nn.Identity().train(change["training"])
    module = cls(**arguments, dtype=getattr(torch, change.get("dtype", "float32")))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
    module.requires_grad_(change.get("requires_grad", True))
    return module.train(change["training"])


def _rewrite(module: nn.Module, change: Change) -> None:
    for name, spec in change["tensors"].items():
        value = torch.full(spec["shape"], 0).to(getattr(torch, spec["dtype"]))
        if value.is_floating_point():
            value.fill_(float("nan"))
        if spec["kind"] == "parameter":
            module.register_parameter(name, nn.Parameter(value, requires_grad=spec["requires_grad"]))
        else:
            module.register_buffer(name, value)
    rewrite(module, change["forward"])
