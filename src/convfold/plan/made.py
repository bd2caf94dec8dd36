"""The modules that a fold puts into a model, as plain values and back."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra.grouped import GroupedLinear
from convfold.errors import InvalidArgument
from convfold.plan.emission.border_bias import BorderBias, Bordered

__all__ = ["MADE", "arguments_of", "fill", "made_of", "make", "tensor_of"]

Fields = dict[str, Any]

# By name: a file names none but these.
MADE: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        nn.Identity,
        nn.Sequential,
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
        nn.ZeroPad1d,
        nn.ZeroPad2d,
        nn.ZeroPad3d,
        GroupedLinear,
        BorderBias,
        Bordered,
    )
}


def arguments_of(module: nn.Module | None) -> Fields:
    """What the module was built with, as far as it keeps it under the same names."""
    if module is None or type(module) not in MADE.values() or isinstance(module, (nn.Identity, nn.Sequential)):
        return {}
    if isinstance(module, BorderBias):
        borders = None if module.borders is None else [list(sides) for sides in module.borders]
        channels, *planned = module.planned.shape
        return {"channels": channels, "planned": planned, "borders": borders, "source": list(module.source)}
    names = inspect.signature(type(module).__init__).parameters
    held = {name: vars(module)[name] for name in names if name in vars(module)}
    if "bias" in names:
        held["bias"] = module._parameters.get("bias") is not None
    return {name: list(v) if isinstance(v, tuple) else v for name, v in held.items()}


def made_of(module: nn.Module) -> Fields:
    """A module of one of these classes as plain values."""
    tensor: Tensor | None = next(module.parameters(), None)
    fields: Fields = {"made": type(module).__name__, "arguments": arguments_of(module), "training": module.training}
    if tensor is None and isinstance(module, BorderBias):
        tensor = module.planned
    if tensor is not None and not isinstance(module, nn.Sequential):
        fields |= {"dtype": _name(tensor.dtype), "requires_grad": tensor.requires_grad}
    return fields


def make(fields: Fields) -> nn.Module:
    """The module that `made_of` described; its numbers are not a number. Raises InvalidArgument for anything else."""
    cls = MADE.get(fields["made"])
    if cls is None:
        raise InvalidArgument("a fold makes no such module", got=repr(fields["made"]), expected=", ".join(MADE))
    arguments: Fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields["arguments"].items()}
    try:
        if cls is BorderBias:
            module: nn.Module = _border_bias(**arguments).to(_dtype(fields["dtype"]))
        elif "dtype" in fields:
            module = cls(**arguments, dtype=_dtype(fields["dtype"]))
        else:
            module = cls(**arguments)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        complaint = " ".join(str(error).split())[:200]
        raise InvalidArgument(f"no {cls.__name__} can be made of this ({complaint})", got=repr(arguments)) from error
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
    module.requires_grad_(bool(fields.get("requires_grad", True)))
    return module.train(bool(fields["training"]))


def _border_bias(channels: int, planned: Any, borders: Any, source: Any) -> BorderBias:
    return BorderBias(tuple(planned), lambda size: torch.full((channels, *size), float("nan")), borders, source)


def tensor_of(tensor: Tensor) -> Fields:
    """Shape and type of a tensor that a rewritten module holds."""
    kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
    shape = list(tensor.shape)
    return {"kind": kind, "shape": shape, "dtype": _name(tensor.dtype), "requires_grad": tensor.requires_grad}


def fill(module: nn.Module, name: str, fields: Fields) -> None:
    """Give the module a tensor of this shape and type, of values that are not a number where there are such."""
    value = torch.full(fields["shape"], 0).to(_dtype(fields["dtype"]))
    if value.is_floating_point():
        value.fill_(float("nan"))
    if fields["kind"] == "parameter":
        module.register_parameter(name, nn.Parameter(value, requires_grad=bool(fields["requires_grad"])))
    else:
        module.register_buffer(name, value)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise InvalidArgument("torch has no such type of numbers", got=repr(name), expected="float32, float64, ...")
    return found
