"""What a forward writes to tensors that the model holds: a program of one call does not have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx
from torch.utils._pytree import tree_leaves

from convfold.errors import InvalidArgument
from convfold.graph.capture.marks import Record
from convfold.graph.capture.storage import storage_of
from convfold.graph.captured import Constant, Ref, Step

__all__ = ["State"]


@dataclass
class State:
    """The writes to parameters, buffers and other tensors of the model.

    `calls` gives, for a call that writes, the name of what it writes to.
    """

    calls: dict[int, str] = field(default_factory=dict)
    _held: dict[int, tuple[Constant, str]] = field(default_factory=dict)
    _named: dict[str, Constant] = field(default_factory=dict)
    # What may not be read for an output: the tensors from before a write, and what they are bound to after it.
    _changing: dict[Ref | Constant, tuple[str, str]] = field(default_factory=dict)

    def hold(self, node: fx.Node, constant: Constant, name: str) -> None:
        """The node is a tensor of the model's own; one that the forward itself writes down is new at each call."""
        if name.rpartition(".")[2].startswith("lifted_tensor"):
            return
        self._named.setdefault(name, constant)
        memory = storage_of(node)
        if memory is not None:
            self._held.setdefault(memory, (constant, name))

    def write(self, node: fx.Node, record: Record, now: Iterable[Any]) -> None:
        """The memory of `node` was written during a call; `now` are bindings with the new value."""
        constant, name = self._held.get(storage_of(node) or -1, (None, ""))
        if constant is None:
            return
        self.calls.setdefault(record.number, name)
        bindings = (constant, *(bound for bound in now if isinstance(bound, (Ref, Constant))))
        self._changing.update(dict.fromkeys(bindings, (name, record.path or record.kind)))

    def assign(self, record: Record) -> None:
        """A call gave attributes of its module other tensors."""
        for attribute in record.assigned:
            name = f"{record.path}.{attribute}" if record.path else attribute
            self.calls.setdefault(record.number, name)
            if name in self._named:
                self._changing[self._named[name]] = (name, record.path or record.kind)

    def check(self, outputs: Iterable[int], steps: Mapping[int, Step], computed: Mapping[Any, Step]) -> None:
        """Raise InvalidArgument where an output is computed of a tensor of the model that is written."""
        found = _reached([Ref(number) for number in outputs], steps, computed) if self._changing else set()
        for leaf, (name, module) in self._changing.items():
            if leaf in found:
                raise InvalidArgument(
                    f"the forward reads '{name}' and writes to it, so each call computes something else",
                    where=module,
                    hint="Fold the modules around it, or give it the tensor as an input.",
                )


def _reached(roots: list[Any], steps: Mapping[int, Step], computed: Mapping[Any, Step]) -> set[Any]:
    """The values and constants that `roots` are computed of, themselves among them."""
    found: set[Any] = set()
    stack = list(roots)
    while stack:
        leaf = stack.pop()
        if leaf in found:
            continue
        found.add(leaf)
        step = steps.get(leaf.value) if isinstance(leaf, Ref) else computed.get(leaf.key)
        if step is not None:
            stack += [part for part in tree_leaves((step.args, step.kwargs)) if isinstance(part, (Ref, Constant))]
    return found
