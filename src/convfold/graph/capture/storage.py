"""In-place operators as single assignment: which nodes see one memory, and what each reads after a write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from convfold.graph.capture.flatten import Flat

__all__ = ["Storage", "storage_of", "written"]


def storage_of(node: fx.Node) -> int | None:
    """The memory that a node's tensor lies in."""
    tensor = node.meta.get("val")
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        return None
    return int(tensor.untyped_storage()._cdata)


def written(node: fx.Node) -> list[fx.Node]:
    """The arguments that an operator overwrites."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    named = {argument.name: value for argument, value in zip(schema.arguments, node.args, strict=False)}
    named.update(node.kwargs)
    return [
        leaf
        for argument in schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for leaf in tree_leaves(named.get(argument.name))
        if isinstance(leaf, fx.Node)
    ]


@dataclass
class Storage:
    """What each node is bound to; views are made again when what they view was written.

    `alias` names the node that another one is as a whole, `parent` the one that it is a view of.
    """

    flat: Flat
    again: Callable[[fx.Node], Any]
    scatter: Callable[[fx.Node, Any, Any], Any]
    bound: dict[fx.Node, Any] = field(default_factory=dict)
    alias: dict[fx.Node, fx.Node] = field(default_factory=dict)
    parent: dict[fx.Node, fx.Node] = field(default_factory=dict)
    _stamp: dict[fx.Node, int] = field(default_factory=lambda: defaultdict(int))
    _clock: int = 0

    def __post_init__(self) -> None:
        self._last: dict[fx.Node, int] = {}
        for index, node in enumerate(self.flat.nodes):
            for source in node.all_input_nodes:
                self._last[self._outer(source)] = index
        self._family: dict[fx.Node, list[fx.Node]] = defaultdict(list)
        self._sharing: dict[int, list[fx.Node]] = defaultdict(list)
        for node in self.flat.nodes:
            memory = storage_of(node)
            if memory is not None:
                self._sharing[memory].append(node)

    def _outer(self, node: fx.Node) -> fx.Node:
        while node in self.flat.same:
            node = self.flat.same[node]
        return node

    def canonical(self, node: fx.Node) -> fx.Node:
        """The node that holds the binding."""
        node = self._outer(node)
        while node in self.alias:
            node = self._outer(self.alias[node])
        return node

    def read(self, node: fx.Node) -> Any:
        """What the node stands for now."""
        chain = [self.canonical(node)]
        while chain[-1] in self.parent:
            chain.append(self.canonical(self.parent[chain[-1]]))
        for below, above in zip(chain[-2::-1], chain[:0:-1], strict=True):
            if self._stamp[above] > self._stamp[below]:
                self.bound[below] = self.again(below)
                self._stamp[below] = self._stamp[above]
        return self.bound[chain[0]]

    def name(self, node: fx.Node, source: fx.Node) -> None:
        """The node is another name of `source`."""
        self.alias[node] = source
        self._family[self._ancestors(node)[-1]].append(node)

    def bind(self, node: fx.Node, value: Any) -> None:
        """A node's first binding."""
        self.bound[node] = value
        self._family[self._ancestors(node)[-1]].append(node)
        above = self.parent.get(node)
        if above is not None:
            self._stamp[node] = self._stamp[self.canonical(above)]

    def _ancestors(self, node: fx.Node) -> list[fx.Node]:
        found = [self.canonical(node)]
        while found[-1] in self.parent:
            found.append(self.canonical(self.parent[found[-1]]))
        return found

    def above(self, node: fx.Node) -> list[Any]:
        """What the tensors that the node is a view of are bound to."""
        return [self.bound[at] for at in self._ancestors(node)[1:] if at in self.bound]

    def reaches_others(self, node: fx.Node, index: int) -> bool:
        """Whether memory that is written through `node` at `index` is read later by other than it and its views."""
        own, memory = self.canonical(node), storage_of(node)
        family = [*self._family[self._ancestors(node)[-1]], *(self._sharing[memory] if memory is not None else ())]
        for other in family:
            at = self.canonical(other)
            if self._last.get(other, 0) > index and at in self.bound and own not in self._ancestors(at):
                return True
        return False

    def write(self, node: fx.Node, value: Any, *, up: bool) -> None:
        """The node has the `value` from now on; with `up`, so has what it is a view of."""
        self._clock += 1
        at = self.canonical(node)
        self.bound[at], self._stamp[at] = value, self._clock
        while up and at in self.parent:
            above = self.canonical(self.parent[at])
            self.bound[above] = self.scatter(at, self.bound[above], self.bound[at])
            self._stamp[above] = self._clock
            at = above
