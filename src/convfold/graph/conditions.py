"""What a capture holds for: conditions on the sizes of the inputs, and the hook that checks them before a forward."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from convfold.errors import InvalidArgument
from convfold.graph.inputs import describe

__all__ = ["OPERATORS", "Condition", "SizeGuard", "guard", "guarded_by", "named_tensors"]

Tree = Any

# By the names of sympy's and torch's functions; each takes a list of numbers.
OPERATORS: dict[str, Callable[[list[Any]], Any]] = {
    "Add": sum,
    "Mul": math.prod,
    "Max": max,
    "Min": min,
    "Mod": lambda v: v[0] % v[1],
    "PythonMod": lambda v: v[0] % v[1],
    "FloorDiv": lambda v: v[0] // v[1],
    "CleanDiv": lambda v: v[0] // v[1],
    "IntTrueDiv": lambda v: v[0] / v[1],
    "CeilToInt": lambda v: math.ceil(v[0]),
    "FloorToInt": lambda v: math.floor(v[0]),
    "Equality": lambda v: v[0] == v[1],
    "Unequality": lambda v: v[0] != v[1],
    "StrictLessThan": lambda v: v[0] < v[1],
    "LessThan": lambda v: v[0] <= v[1],
    "StrictGreaterThan": lambda v: v[0] > v[1],
    "GreaterThan": lambda v: v[0] >= v[1],
    "And": all,
    "Or": any,
    "Not": lambda v: not v[0],
}
_SIZE = "size"


@dataclass(frozen=True)
class Condition:
    """A condition on sizes: `said` for a reader, and `tree` to compute it.

    A tree is a number, ``("size", tensor, axis)``, or the name of an operator with its arguments; tensors are
    numbered as `named_tensors` lists them.
    """

    said: str
    tree: Tree

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether inputs meet it; those that lack a tensor or an axis do not."""
        try:
            return bool(_value(self.tree, tensors))
        except (IndexError, ArithmeticError):
            return False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"said": self.said, "tree": _listed(self.tree)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Condition:
        """What `to_dict` gave. Raises ValueError for anything else."""
        if not isinstance(fields["said"], str):
            raise ValueError(f"a condition {str(fields)[:60]}")
        return cls(fields["said"], _read(fields["tree"]))


def _value(tree: Tree, tensors: Sequence[Tensor]) -> Any:
    if not isinstance(tree, tuple):
        return tree
    name, *rest = tree
    if name == _SIZE:
        return tensors[rest[0]].shape[rest[1]]
    return OPERATORS[name]([_value(part, tensors) for part in rest])


def _listed(tree: Tree) -> Any:
    return [tree[0], *map(_listed, tree[1:])] if isinstance(tree, tuple) else tree


def _read(tree: Any) -> Tree:
    if isinstance(tree, (bool, int, float)):
        return tree
    name, *rest = tree
    if name == _SIZE and len(rest) == 2 and all(type(part) is int and part >= 0 for part in rest):
        return (name, *rest)
    if name in OPERATORS and rest:
        return (name, *map(_read, rest))
    raise ValueError(f"a condition {str(tree)[:60]}")


def named_tensors(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors that a call gives, by the names of the forward's arguments, however they were passed.

    Raises TypeError for arguments that the forward does not take.
    """
    try:
        signature = inspect.signature(model.forward)
    except ValueError:  # a forward written in C++ shows none
        signature = inspect.signature(lambda *inputs, **named: None)
    bound = signature.bind(*args, **kwargs).arguments
    found = []
    for name, value in bound.items():
        leaves, _ = tree_flatten_with_path(value)
        found += [(f"{name}{keystr(path)}", leaf) for path, leaf in leaves if isinstance(leaf, Tensor)]
    return found


@dataclass(frozen=True)
class SizeGuard:
    """A forward pre-hook that raises InvalidArgument for inputs of sizes that a fold does not hold for."""

    conditions: tuple[Condition, ...]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        try:
            tensors = [tensor for _, tensor in named_tensors(module, args, kwargs)]
        except TypeError:  # the forward itself says so
            return
        for condition in self.conditions:
            if not condition.holds(tensors):
                raise InvalidArgument(
                    "the folded model does not hold for inputs of this size",
                    where=type(module).__name__,
                    got=describe(tensors),
                    expected=condition.said,
                    hint="Fold the original with example inputs of this size.",
                )


def guarded_by(module: nn.Module) -> tuple[Condition, ...]:
    """The conditions that a module checks before its forward."""
    hooks = (hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SizeGuard))
    return tuple(condition for hook in hooks for condition in hook.conditions)


def guard(module: nn.Module, conditions: Iterable[Condition]) -> None:
    """Have a module check these conditions, and no others, before its forward, in place."""
    hooks, more = module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs
    for key in [key for key, hook in hooks.items() if isinstance(hook, SizeGuard)]:
        del hooks[key]
        more.pop(key, None)
    found = tuple(dict.fromkeys(conditions))
    if found:
        module.register_forward_pre_hook(SizeGuard(found), prepend=True, with_kwargs=True)
