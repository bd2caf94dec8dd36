"""Operators as a person would write them: expressions for the lines of a rewritten forward."""

from __future__ import annotations

import dataclasses
import enum
import keyword
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from convfold.graph.capture.steps import functional
from convfold.graph.captured import Constant, Ref, Size, Step

__all__ = ["FUNCTIONS", "METHODS", "attribute", "identifier", "imports", "literal", "spell", "tree"]

aten: Any = torch.ops.aten
Leaf = Callable[[Any], str]

_INFIX = {
    aten.add.Tensor: "+",
    aten.sub.Tensor: "-",
    aten.mul.Tensor: "*",
    aten.div.Tensor: "/",
    aten.matmul.default: "@",
}
# Operators that torch spells with the same arguments in the same order.
_CALLS: dict[Any, str] = {
    aten.adaptive_avg_pool2d.default: "F.adaptive_avg_pool2d",
    aten.avg_pool2d.default: "F.avg_pool2d",
    aten.cat.default: "torch.cat",
    aten.conv1d.default: "F.conv1d",
    aten.conv2d.default: "F.conv2d",
    aten.conv3d.default: "F.conv3d",
    aten.gelu.default: "F.gelu",
    aten.hardsigmoid.default: "F.hardsigmoid",
    aten.hardswish.default: "F.hardswish",
    aten.hardtanh.default: "F.hardtanh",
    aten.leaky_relu.default: "F.leaky_relu",
    aten.linear.default: "F.linear",
    aten.max_pool2d.default: "torch.max_pool2d",
    aten.mish.default: "F.mish",
    aten.pad.default: "F.pad",
    aten.relu.default: "F.relu",
    aten.relu6.default: "F.relu6",
    aten.sigmoid.default: "torch.sigmoid",
    aten.silu.default: "F.silu",
    aten.tanh.default: "torch.tanh",
}
_METHODS: dict[Any, str] = {
    aten.chunk.default: "chunk",
    aten.flatten.using_ints: "flatten",
    aten.mean.dim: "mean",
    aten.permute.default: "permute",
    aten.reshape.default: "reshape",
    aten.softmax.int: "softmax",
    aten.split.Tensor: "split",
    aten.squeeze.dim: "squeeze",
    aten.transpose.int: "transpose",
    aten.unsqueeze.default: "unsqueeze",
    # Strides may have changed: a view may be none any more.
    aten.view.default: "reshape",
}
# All that a rewritten forward calls besides modules and operators by their full name.
FUNCTIONS = frozenset(_CALLS.values()) | {
    "F.avg_pool1d",
    "F.avg_pool3d",
    "F.batch_norm",
    "F.dropout",
    "F.layer_norm",
    "torch.add",
    "torch.addcmul",
    "torch.device",
}
METHODS = frozenset(_METHODS.values()) | {"index_select", "movedim"}


def identifier(name: str) -> str:
    """`name` as a variable."""
    plain = re.sub(r"\W", "_", name) or "value"
    return f"{plain}_" if keyword.iskeyword(plain) or plain[0].isdigit() else plain


def attribute(root: nn.Module, path: str, base: str = "self") -> str:
    """How the forward of `root` names what stands at `path` below it."""
    text, at = base, root
    for name in filter(None, path.split(".")):
        held = at._modules if isinstance(at, nn.Module) else {}
        if isinstance(at, (nn.Sequential, nn.ModuleList)) and name in held and list(held).index(name) == _number(name):
            text += f"[{name}]"
        elif isinstance(at, nn.ModuleDict) and name in held:
            text += f"[{name!r}]"
        elif name.isidentifier() and not keyword.iskeyword(name):
            text += f".{name}"
        else:
            text = f"getattr({text}, {name!r})"
        at = getattr(at, name, None)
    return text


def _number(name: str) -> int:
    return int(name) if name.isdigit() else -1


def _named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def imports(value: Any) -> set[str]:
    """The import lines that the containers and constants in a tree need."""
    found: set[str] = set()
    if _named_tuple(value) or (type(value) not in (tuple, list, dict, torch.Size) and isinstance(value, (tuple, dict))):
        found.add(f"from {type(value).__module__} import {type(value).__qualname__}")
    if isinstance(value, (tuple, list)):
        return found.union(*map(imports, value))
    if isinstance(value, dict):
        return found.union(*map(imports, value.values()))
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, Ref, Constant, Size)):
        held = [getattr(value, item.name) for item in dataclasses.fields(value)]
        return {f"from {type(value).__module__} import {type(value).__qualname__}"}.union(*map(imports, held))
    return found


def tree(value: Any, leaf: Leaf) -> str:
    """A tree of arguments or results as an expression; `leaf` gives Ref, Constant and Size leaves."""
    if isinstance(value, (Ref, Constant, Size)):
        return leaf(value)
    if _named_tuple(value):
        return f"{type(value).__qualname__}({', '.join(tree(v, leaf) for v in value)})"
    if isinstance(value, list):
        return f"[{', '.join(tree(v, leaf) for v in value)}]"
    if isinstance(value, tuple):
        inner = ", ".join(tree(v, leaf) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        inner = ", ".join(f"{k!r}: {tree(v, leaf)}" for k, v in value.items())
        return f"{{{inner}}}" if type(value) is dict else f"{type(value).__qualname__}({{{inner}}})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = ((item.name, getattr(value, item.name)) for item in dataclasses.fields(value))
        return f"{type(value).__qualname__}({', '.join(f'{name}={tree(v, leaf)}' for name, v in held)})"
    return literal(value)


def literal(value: Any) -> str:
    """A plain value as source."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, enum.Enum):
        return repr(value.value)
    return repr(value)


def spell(step: Step, leaf: Leaf) -> str:
    """``target(*args, **kwargs)`` out of place; dropout and batch normalisation follow ``self.training``."""
    step = functional(step)
    target = step.target
    if target is operator.getitem:
        return f"{tree(step.args[0], leaf)}[{tree(step.args[1], leaf)}]"
    special = _SPECIAL.get(target)
    text = special(step, leaf) if special is not None else None
    return text if text is not None else _general(step, leaf)


def _general(step: Step, leaf: Leaf) -> str:
    args = [tree(value, leaf) for value in step.args]
    kwargs = [f"{name}={_keyword(name, value, step, leaf)}" for name, value in step.kwargs.items()]
    target = step.target
    if target in _INFIX and len(args) == 2 and not kwargs and isinstance(step.args[0], (Ref, Constant)):
        return f"{args[0]} {_INFIX[target]} {_atom(args[1])}"
    if target in _METHODS:
        return f"{args[0]}.{_METHODS[target]}({', '.join(args[1:] + kwargs)})"
    name = _CALLS.get(target)
    if name is None:
        space, _, rest = target._schema.name.partition("::")
        name = f"torch.ops.{space}.{rest}.{target._overloadname or 'default'}"
    return f"{name}({', '.join(args + kwargs)})"


def _atom(text: str) -> str:
    return f"({text})" if text.startswith("-") else text


def _keyword(name: str, value: Any, step: Step, leaf: Leaf) -> str:
    """A new tensor is made where the others are, wherever the model has been moved to."""
    if name == "device" and isinstance(value, torch.device):
        near = next((v for v in step.args if isinstance(v, (Ref, Constant))), None)
        return f"{leaf(near)}.device" if near is not None else leaf(Size("device"))
    return tree(value, leaf)


def _arguments(step: Step) -> dict[str, Any]:
    names = [argument.name for argument in step.target._schema.arguments]
    given = dict(zip(names, step.args, strict=False)) | dict(step.kwargs)
    defaults = {a.name: a.default_value for a in step.target._schema.arguments if a.has_default_value()}
    return defaults | given


def _dropout(step: Step, leaf: Leaf) -> str:
    given = _arguments(step)
    return f"F.dropout({tree(given['input'], leaf)}, {literal(given['p'])}, self.training)"


def _batch_norm(step: Step, leaf: Leaf) -> str | None:
    given = _arguments(step)
    if given["training"] or not isinstance(given["running_mean"], Constant):
        return None
    order = ("input", "running_mean", "running_var", "weight", "bias")
    held = ", ".join(tree(given[name], leaf) for name in order)
    return f"F.batch_norm({held}, self.training, {literal(given['momentum'])}, {literal(given['eps'])})"


def _layer_norm(step: Step, leaf: Leaf) -> str:
    given = _arguments(step)
    order = ("input", "normalized_shape", "weight", "bias", "eps")
    return f"F.layer_norm({', '.join(tree(given[name], leaf) for name in order)})"


def _slice(step: Step, leaf: Leaf) -> str | None:
    given = _arguments(step)
    axis, start, end, pace = given["dim"], given["start"], given["end"], given["step"]
    if not isinstance(axis, int) or axis < 0:
        return None
    first = "" if start in (None, 0) else tree(start, leaf)
    last = "" if end is None or end == 2**63 - 1 else tree(end, leaf)
    part = f"{first}:{last}" + ("" if pace == 1 else f":{tree(pace, leaf)}")
    return f"{tree(given['self'], leaf)}[{', '.join([':'] * axis + [part])}]"


def _identity(step: Step, leaf: Leaf) -> str:
    return tree(step.args[0], leaf)


_SPECIAL: dict[Any, Callable[[Step, Leaf], str | None]] = {
    aten.alias.default: _identity,
    aten.batch_norm.default: _batch_norm,
    aten.dropout.default: _dropout,
    aten.layer_norm.default: _layer_norm,
    aten.slice.Tensor: _slice,
}
