"""What nothing needs any more goes; what a kept node reads of sizes is read where it still can be."""

from __future__ import annotations

import onnx_ir as ir

from convfold.graph.onnx.nodes import inner_graphs, reads
from convfold.plan.onnx.sizes import known_sizes, written_sizes
from convfold.plan.onnx.writer import INITIALISERS_ALONE, Writer

__all__ = ["prune"]


def prune(writer: Writer, idle: set[str]) -> None:
    """Remove nodes that no output needs, and initialisers that nothing reads; those that were `idle` before stay.

    A size that a needed node reads off a value that is not computed any more is written anew over the inputs.
    """
    needed = _needed(writer)
    gone = [node for node in writer.graph if node not in needed]
    for node in gone:
        _let_go(node)
    writer.graph.remove(gone, safe=True)
    alone = writer.model.ir_version >= INITIALISERS_ALONE
    for name, value in list(writer.graph.initializers.items()):
        if value.uses() or value.is_graph_output() or name in idle:
            continue
        if value.is_graph_input():
            if alone:
                continue
            # Of old files every constant is an input by form.
            writer.graph.inputs.remove(value)
        del writer.graph.initializers[name]


def _let_go(node: ir.Node) -> None:
    """Have the graphs inside a node, which goes, read nothing."""
    for graph in inner_graphs(node):
        for inner in ir.traversal.RecursiveGraphIterator(graph):
            for index, _ in enumerate(inner.inputs):
                inner.replace_input_with(index, None)


def _needed(writer: Writer) -> set[ir.Node]:
    """The nodes of the main graph that its outputs are computed by."""
    there = _Computed(writer)
    needed: set[ir.Node] = set()
    stack: list[ir.Value] = list(writer.graph.outputs)
    while stack:
        value = there.replaced(stack.pop())
        node = value.producer()
        if node is None or node.graph is not writer.graph or node in needed:
            continue
        needed.add(node)
        stack += reads(node)
    return needed


class _Computed:
    """Whether sizes can be read where they are read; those that cannot are replaced."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        # What is neither a value of the program nor written anew follows from sizes, or is constant.
        results = (value.name for node in writer.captured.model.graph for value in node.outputs)
        self._apart = {name for name in results if name} - set(writer.numbers)
        self._there: dict[ir.Value, bool] = {}
        self._instead: dict[ir.Value, ir.Value] = {}

    def replaced(self, value: ir.Value) -> ir.Value:
        """The value, or what stands for it: a size that would be read off what is not computed any more."""
        writer = self._writer
        if value in self._instead:
            return self._instead[value]
        name = value.name
        if name not in self._apart or self._is_there(value):
            return value
        known = known_sizes(writer, value)
        new = None if known is None else written_sizes(writer, known, value.dtype, name)
        if new is None:
            # The old nodes are still right; they compute more than was counted.
            return value
        writer.place(None, name)
        writer.take_over(value, new)
        self._instead[value] = new
        return new

    def _is_there(self, value: ir.Value) -> bool:
        """Whether no node behind a size reads a value that is not computed any more."""
        stack = [value]
        while stack:
            current = stack[-1]
            if current in self._there:
                stack.pop()
                continue
            node = current.producer()
            if node is None or current.name not in self._apart:
                number = self._writer.numbers.get(current.name or "")
                self._there[current] = number is None or number in self._writer.of
                stack.pop()
                continue
            missing = [v for v in reads(node) if v not in self._there]
            if missing:
                stack += missing
                continue
            self._there[current] = all(self._there[v] for v in reads(node))
            stack.pop()
        return self._there[value]
