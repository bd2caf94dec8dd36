"""Which call of which module sees which tensor: marks that a traced model leaves in its graph."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils._pytree import tree_map

from convfold.graph.captured import Constant, Ref, Size

__all__ = ["MARK", "Event", "Leaf", "Record", "Recorder", "map_tree"]

_library = torch.library.Library("convfold", "FRAGMENT")
_library.define("mark(Tensor(a) x, int key) -> Tensor(a)")
_library.impl("mark", lambda x, key: torch.ops.aten.alias.default(x), "CompositeExplicitAutograd")
MARK = torch.ops.convfold.mark.default
torch.fx.node.has_side_effect(MARK)  # else a mark that nothing reads is swept out of the graph


@dataclass(frozen=True)
class Leaf:
    """A tensor in the recorded arguments or the output of a call, by the key of its mark."""

    key: int


@dataclass(frozen=True)
class Event:
    """A tensor enters or leaves a call; `key` is its leaf's."""

    number: int
    enters: bool
    key: int


def _traced() -> int | None:
    """How many operators the trace holds by now; None outside one."""
    mode = get_proxy_mode()
    return None if mode is None else len(mode.tracer.graph.nodes)


@dataclass
class Record:
    """One call of a module as the recorder saw it; `assigned` are the attributes that it gave other tensors."""

    number: int
    path: str
    kind: str
    parent: int | None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    finished: bool = False
    assigned: tuple[str, ...] = ()


def map_tree(change: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with `change` applied to its leaves; unregistered dataclasses count as containers too."""

    def leaf(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, (type, Leaf, Ref, Constant, Size)):
            changed = copy.copy(value)
            for item in fields(value):
                object.__setattr__(changed, item.name, map_tree(change, getattr(value, item.name)))
            return changed
        return change(value)

    return tree_map(leaf, tree)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors that a module holds as buffers or plain attributes."""
    held = (*module._buffers.items(), *vars(module).items())
    return {name: tensor for name, tensor in held if isinstance(tensor, Tensor)}


class Recorder:
    """Wraps the forward of every module of a copy, and notes its calls while the copy is traced."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the calls: before another trace."""
        self.records: list[Record] = []
        self.marks: dict[int, list[Event]] = {}
        self.token: Tensor | None = None
        self._stack: list[int] = []
        self._keys = 0
        self._latest: tuple[Tensor, int, int] | None = None

    def wrap(self, model: nn.Module) -> None:
        """Put the marks around every module's forward; a scripted module's is left alone."""
        for path, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                module.__dict__["forward"] = self._wrapped(path, module)

    def _mark(self, number: int, enters: bool, tensor: Tensor, passes: bool) -> tuple[Leaf, Tensor]:
        """Mark a tensor; one that was marked last, with nothing executed since, carries the new event too."""
        leaf = Leaf(self._keys)
        self._keys += 1
        event = Event(number, enters, leaf.key)
        latest, count = self._latest, _traced()
        if latest is not None and latest[0] is tensor and latest[2] == count and not passes:
            self.marks[latest[1]].append(event)
            return leaf, tensor
        self.marks[leaf.key] = [event]
        marked = MARK(tensor, leaf.key)
        self._latest = None if count is None else (marked, leaf.key, count + 1)
        # A forward may ask whether it was given a parameter.
        return leaf, tensor if isinstance(tensor, nn.Parameter) else marked

    def _marked(self, number: int, enters: bool, tree: Any, given: frozenset[int] = frozenset()) -> tuple[Any, Any]:
        """The tree as recorded, and the tree with its tensors marked: one object stays one object.

        `given` are the call's own inputs, by identity: what it gives back as it came needs a mark of its own.
        """
        seen: dict[int, tuple[Leaf, Tensor]] = {}

        def pair(tensor: Tensor) -> tuple[Leaf, Tensor]:
            if id(tensor) not in seen:
                seen[id(tensor)] = self._mark(number, enters, tensor, id(tensor) in given)
            return seen[id(tensor)]

        def noted(value: Any) -> Any:
            if isinstance(value, Tensor):
                return pair(value)[0]
            if isinstance(value, (torch.SymInt, torch.SymFloat)):
                return Size(value.node.expr)
            return value

        marked = map_tree(lambda value: pair(value)[1] if isinstance(value, Tensor) else value, tree)
        recorded = map_tree(noted, tree)
        if not seen and self.token is not None:
            self._mark(number, enters, self.token, passes=False)
        return recorded, marked

    def _wrapped(self, path: str, module: nn.Module) -> Callable[..., Any]:
        inner = module.forward

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            parent = self._stack[-1] if self._stack else None
            record = Record(len(self.records), path, type(module).__name__, parent)
            self.records.append(record)
            self._stack.append(record.number)
            try:
                (record.args, record.kwargs), (args, kwargs) = self._marked(record.number, True, (args, kwargs))
                held: list[Tensor] = []  # kept, so that their identities stay theirs
                map_tree(lambda value: held.append(value) if isinstance(value, Tensor) else None, (args, kwargs))
                given = frozenset(id(tensor) for tensor in held)
                before = _tensors(module)
                output = inner(*args, **kwargs)
                after = _tensors(module)
                record.assigned = tuple(name for name in after if after[name] is not before.get(name))
                record.output, output = self._marked(record.number, False, output, given)
                record.finished = True
                return output
            finally:
                self._stack.pop()

        return forward
