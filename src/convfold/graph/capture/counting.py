"""How many operators an operator of the graph executes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from convfold.graph.operators import is_layout

__all__ = ["executed", "products"]


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


def executed(target: Any, args: Any, kwargs: Any) -> int:
    """The operators behind ``target(*args, **kwargs)``, views and copies not counted; arguments on the meta device.

    An operator that torch composes of others is run to see them.
    """
    if not torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd"):
        return 0 if is_layout(target) else 1
    try:
        with _Count() as counter, torch.no_grad():
            target(*args, **kwargs)
    except Exception:  # not every operator runs without values
        return 1
    return counter.count
