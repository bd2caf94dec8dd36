"""How many operators an operator of the graph executes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from convfold.graph.operators import is_layout

__all__ = ["Executed", "products"]


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not is_layout(func)
        return func(*args, **(kwargs or {}))


def products(target: Any, args: Any, kwargs: Any) -> int:
    """The multiply-accumulates behind an operator, by torch's own formulas; arguments on the meta device."""
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            target(*args, **kwargs)
    except Exception:  # not every operator runs without values
        return 0
    return int(counter.get_total_flops()) // 2


class Executed:
    """How many operators ``target(*args, **kwargs)`` executes, views and copies not counted.

    Arguments are on the meta device. An operator that torch composes of others is run to see them, once for
    arguments of the same shapes: networks repeat themselves, and torch takes milliseconds.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}

    def __call__(self, target: Any, args: Any, kwargs: Any) -> int:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"):
            return 0 if is_layout(target) else 1
        key = (target, *map(_described, (*args, *kwargs.items())))
        if key not in self._known:
            self._known[key] = _count(target, args, kwargs)
        return self._known[key]


def _described(argument: Any) -> Any:
    """An argument without its values, hashable."""
    leaves = [(x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else repr(x) for x in tree_leaves(argument)]
    return (type(argument), *leaves)


def _count(target: Any, args: Any, kwargs: Any) -> int:
    counter = _Count()
    try:
        with counter, torch.no_grad():
            target(*args, **kwargs)
    except Exception:  # not every operator runs without values
        return 1
    return counter.count
