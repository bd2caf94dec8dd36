"""The sizes that an exported graph holds for: those that are fixed in it, and what the forward's branches asked."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch.utils._sympy.printers import PythonPrinter

from convfold.graph.capture.export import Exported, placeholders
from convfold.graph.conditions import OPERATORS, Condition, named_tensors
from convfold.graph.inputs import ExampleInputs
from convfold.graph.sizes import expression

__all__ = ["conditions_of"]

_TORCH = os.path.dirname(torch.__file__) + os.sep
# What of torch is written as a user's model is: its branches are the model's.
_MODULES = (os.path.join(_TORCH, "nn") + os.sep, os.path.join(_TORCH, "functional.py"))
_LONGEST = 120  # characters of a condition that are still said


def conditions_of(
    model: nn.Module, exported: Exported, given: ExampleInputs
) -> tuple[list[Condition], list[Condition]]:
    """What the sizes of the inputs have to meet, so that the forward of `model` does what the graph does.

    First, an axis of a fixed size has that size, but for channels, which the weights tell. Second, where a branch of
    the forward looked at an open size, what it found holds: torch notes that. It does so for its operators too, but
    the forms of those are equal, or they refuse what does not meet the condition.
    """
    tensors = named_tensors(model, given.args, given.kwargs)
    places = [next(i for i, (_, own) in enumerate(tensors) if own is tensor) for tensor in exported.tensors]
    nodes = placeholders(exported.program)
    fixed: list[Condition] = []
    asked: list[Condition] = []
    symbols: dict[sympy.Symbol, tuple[int, int, int]] = {}
    for place, node, tensor in zip(places, nodes, exported.tensors, strict=True):
        for axis, size in enumerate(map(expression, node.meta["val"].shape)):
            if isinstance(size, int) and axis != 1:
                fixed.append(_fixed(tensors, place, axis, int(tensor.shape[axis])))
            elif isinstance(size, sympy.Symbol):
                symbols.setdefault(size, (place, axis, int(tensor.shape[axis])))
    names = {symbol: f"{tensors[place][0]}.shape[{axis}]" for symbol, (place, axis, _) in symbols.items()}
    for branch in _branches(nodes):
        if branch.free_symbols <= symbols.keys():
            tree = _tree(branch, symbols)
            if tree is None:  # beyond what is known to be computed the same: these sizes alone
                asked += [_fixed(tensors, *symbols[symbol]) for symbol in sorted(branch.free_symbols, key=str)]
            else:
                asked.append(Condition(_said(branch, names), tree))
    # The example may be a batch of one, which the graph was not captured at.
    own = [tensor for _, tensor in tensors]
    return fixed, [condition for condition in dict.fromkeys(asked) if condition.holds(own)]


def _fixed(tensors: list[tuple[str, Tensor]], place: int, axis: int, size: int) -> Condition:
    return Condition(f"{tensors[place][0]}.shape[{axis}] == {size}", ("Equality", ("size", place, axis), size))


def _branches(nodes: list[Any]) -> Iterator[sympy.Basic]:
    """The conditions that the code of modules, not that of torch's operators, was told to be true."""
    sizes = (size for node in nodes for size in node.meta["val"].shape if isinstance(size, torch.SymInt))
    first = next(sizes, None)
    for guard in first.node.shape_env.guards if first is not None else ():
        where = getattr(getattr(guard, "sloc", None), "framework_loc", None)
        if isinstance(where, traceback.FrameSummary) and _is_users(where.filename):
            yield guard.expr


def _is_users(filename: str) -> bool:
    name = os.path.abspath(filename)
    return name.startswith(_MODULES) or not name.startswith(_TORCH)


def _tree(item: Any, symbols: dict[sympy.Symbol, tuple[int, int, int]]) -> Any:
    """The tree of a condition; None where it has a function that is not known."""
    if isinstance(item, sympy.Symbol):
        return ("size", *symbols[item][:2])
    if isinstance(item, (sympy.Integer, sympy.logic.boolalg.BooleanAtom)):
        return int(item)
    name, args = type(item).__name__, item.args
    if isinstance(item, sympy.Pow) and item.exp in (2, 3):
        name, args = "Mul", (item.base,) * int(item.exp)
    parts = [_tree(part, symbols) for part in args]
    return None if name not in OPERATORS or not parts or None in parts else (name, *parts)


def _said(asked: sympy.Basic, names: dict[sympy.Symbol, str]) -> str:
    # A name with dots and brackets is no identifier, but prints as one.
    shown = asked.xreplace({symbol: sympy.Symbol(name, integer=True) for symbol, name in names.items()})
    text = str(PythonPrinter().doprint(shown))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
