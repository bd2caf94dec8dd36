"""What recipes of maps and biases are made of."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves

from convfold.graph.captured import Captured, Constant
from convfold.graph.maps import After, Block, Columns, Given, Map, Plus, Rows, Seen
from convfold.graph.program import Shift, ShiftGiven, ShiftMap, ShiftThrough, inner_shifts

__all__ = ["keys_of", "names_in", "parts_of"]


def parts_of(item: Any) -> tuple[Any, ...]:
    """The maps, recipes and biases that one is directly made of."""
    if isinstance(item, Map):
        return () if item.recipe is None else (item.recipe,)
    if isinstance(item, After):
        return (item.first, item.second)
    if isinstance(item, (Plus, Rows, Columns)):
        return item.maps
    if isinstance(item, Block):
        return (item.whole,)
    if isinstance(item, Seen):
        return (item.inner,)
    if isinstance(item, Given):
        return ()
    shifts = inner_shifts(item)
    return (*shifts, item.map) if isinstance(item, (ShiftThrough, ShiftMap)) else shifts


def keys_of(*roots: Map | Shift | None) -> Iterator[Hashable]:
    """The frontend's keys that recipes end in, each occurrence once; a known factor is no key."""
    stack: list[Any] = [root for root in roots if root is not None]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        if id(item) in seen or (isinstance(item, Map) and item.kind in ("pool", "scalar") and item.factor is not None):
            continue
        seen.add(id(item))
        if isinstance(item, (Given, ShiftGiven)):
            yield item.key
        stack += parts_of(item)


def names_in(captured: Captured, key: Any) -> Iterator[str]:
    """The names of the model's own tensors in a key, which may be derived of others, each once.

    The kernel and the bias of a block's own equation are made of every number that the block holds.
    """
    stack, seen = [key], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current is not None and current in captured.names:
            yield captured.names[current]
        elif current in captured.computed:
            step = captured.computed[current]
            leaves = tree_leaves((step.args, step.kwargs))
            stack += [leaf.key for leaf in reversed(leaves) if isinstance(leaf, Constant)]
        elif isinstance(current, tuple) and current[:1] in (("op.weight",), ("op.bias",)):
            yield from _held(captured.model.get_submodule(current[1]), current[1])
        elif isinstance(current, tuple):
            stack += reversed(current)


def _held(module: nn.Module, path: str) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    yield from (prefix + name for name, tensor in tensors if tensor.is_floating_point())
