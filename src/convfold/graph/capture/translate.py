"""From an exported graph to the neutral program."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from convfold.errors import InvalidArgument
from convfold.graph.capture.constants import Constants
from convfold.graph.capture.flatten import Flat
from convfold.graph.capture.marks import MARK, Recorder
from convfold.graph.capture.pieces import SPLITS, span
from convfold.graph.capture.places import line_of
from convfold.graph.capture.scatter import scattered
from convfold.graph.capture.state import State
from convfold.graph.capture.steps import out_of_place
from convfold.graph.capture.storage import Storage, storage_of, written
from convfold.graph.capture.values import Values, meta_of
from convfold.graph.captured import Constant, Ref, Size, Step
from convfold.graph.maps import IDENTITY
from convfold.graph.operation import functional_name
from convfold.graph.program import Linear, Node, Opaque, Term
from convfold.graph.rules.channels import picked
from convfold.graph.sizes import Sizes, expression

__all__ = ["Translation"]

aten: Any = torch.ops.aten
_DROPS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
# Setting ``tensor.data`` leaves this behind, and nothing that says what it was set to.
_SET = "_has_compatible_shallow_copy_type"
_CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range_for_size")


def _follows_inputs(*trees: Any) -> bool:
    return any(isinstance(leaf, (Ref, Size)) for leaf in tree_leaves(trees))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _drops_nothing(target: Any, args: Any) -> bool:
    return functional_name(target) in _DROPS and args[2] is False


def _random(target: Any, args: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in target.tags and not _drops_nothing(target, args)


class Translation:
    """The program of an exported graph, grown node by node; `marked` is what each mark stands for.

    A node is bound to a Ref, a Constant, a Size or a plain value; an operator of several results to one of the
    first two that holds them all.
    """

    def __init__(self, flat: Flat, sizes: Sizes, constants: Constants, recorder: Recorder) -> None:
        self.flat, self.constants, self.recorder = flat, constants, recorder
        self.values = Values(sizes, constants, recorder)
        self.marked: dict[int, Any] = {}
        self.storage = Storage(flat, self._again, self._scattered)
        self.state = State()
        self._entered: dict[int, int] = {}

    def run(self) -> None:
        """Translate every node; raises InvalidArgument for a write that has no form without one."""
        for index, node in enumerate(self.flat.nodes):
            if node.op == "get_attr":
                found = self.flat.attributes[node]
                held = self.constants.hold(("held", str(node.target)), found) if isinstance(found, Tensor) else found
                self.storage.bind(node, held)
            elif node.op == "call_function":
                self._node(node, index)

    def _node(self, node: fx.Node, index: int) -> None:
        name = functional_name(node.target)
        if node.target is MARK:
            self._mark(node)
        elif name == _SET:
            raise InvalidArgument(
                "a tensor whose .data is set is not captured", where=line_of(node), hint="Write to it with copy_()."
            )
        elif name in _CHECKS or name in SPLITS:
            return  # the pieces of a split are selections of what it splits
        elif written(node):  # before what gives no tensor: a write may give nothing
            self._written(node, index)
        elif not isinstance(node.target, torch._ops.OpOverload) or _is_number(node.meta.get("val")):
            self._other(node)
        else:
            self._note_parent(node, node.all_input_nodes)
            self.storage.bind(node, self._again(node))

    def _mark(self, node: fx.Node) -> None:
        source, key = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(key, int)
        first = self.recorder.marks[key][0]
        bound = self.storage.read(source)
        if not first.enters and isinstance(bound, Ref) and bound.value < self._entered.get(first.number, 0):
            self.values.call = first.number
            self.storage.parent[node] = source
            self.storage.bind(node, self._same(node, bound))
        else:
            self.storage.name(node, source)
        for event in self.recorder.marks[key]:
            self.marked[event.key] = self.storage.read(node)
            if event.enters:
                self.values.call = event.number
                self._entered.setdefault(event.number, len(self.values.program.values))
            else:
                self.values.call = self.recorder.records[event.number].parent or 0

    def _same(self, node: fx.Node, source: Ref) -> Ref:
        """A value of its own for what a call gives back as it came."""
        step = Step(aten.alias.default, (source,), {})
        meta = self.values.meta(source)
        same: Node = Linear((Term(IDENTITY, source.value),))
        if not meta.dtype.is_floating_point:
            same = Opaque((source.value,), operators=0)
        return self.values.add(node, step, lambda number: same, meta, 0)

    def _note_parent(self, node: fx.Node, above: list[fx.Node]) -> None:
        """Note what the node is a view of: an argument in the same memory, or what passes a dropout in eval mode."""
        memory = storage_of(node)
        drops = node.target is not operator.getitem and _drops_nothing(node.target, node.args)
        for source in above:
            if drops or (memory is not None and storage_of(source) == memory):
                self.storage.parent[node] = source
                return

    def _again(self, node: fx.Node) -> Any:
        """What the operator of a node gives for what its arguments are now."""
        if node.target is MARK:
            return self._same(node, self.storage.read(node.all_input_nodes[0]))
        if node.target is operator.getitem:
            return self._piece(node)
        return self._operator(node, node.target, frozenset())

    def _arguments(self, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def leaf(value: Any) -> Any:
            return self.storage.read(value) if isinstance(value, fx.Node) else value

        args, kwargs = fx.node.map_aggregate(node.args, leaf), fx.node.map_aggregate(node.kwargs, leaf)
        return tuple(args), dict(kwargs)  # type: ignore[arg-type]

    def _operator(self, node: fx.Node, target: Any, writes: frozenset[int]) -> Any:
        args, kwargs = self._arguments(node)
        step, meta = Step(target, args, kwargs, writes), meta_of(node.meta["val"])
        if not _follows_inputs(args, kwargs) and not _random(target, args):
            return self.constants.compute(step, meta)
        return self.values.operator(node, step, meta)

    # --- writes

    def _written(self, node: fx.Node, index: int) -> None:
        targets, target = written(node), out_of_place(node.target)
        if len(targets) != 1 or target is None:
            raise InvalidArgument(
                f"the operator {node.target} writes in a way that is not captured",
                where=line_of(node),
                hint="Write it without the in-place operator.",
            )
        own = self.storage.read(targets[0])
        up = self.storage.reaches_others(targets[0], index)
        if isinstance(own, Ref) and not up:
            value = self._operator(node, node.target, frozenset({own.value}))
        else:
            value = self._operator(node, target, frozenset())
        self.storage.write(targets[0], value, up=up)
        now = (value, *(self.storage.above(targets[0]) if up else ()))
        self.state.write(targets[0], self.recorder.records[self.values.call], now)
        self.storage.name(node, targets[0])

    def _scattered(self, node: fx.Node, whole: Any, part: Any) -> Any:
        """The viewed tensor after its view `node` was written."""
        if node.target is MARK or (node.target is not operator.getitem and _drops_nothing(node.target, node.args)):
            return part
        parent = self.storage.parent[node]
        args = () if node.target is operator.getitem else self._arguments(node)[0]
        step = scattered(node, parent, whole, part, args)
        if step is None:
            raise InvalidArgument(
                f"a write through the view {node.target} is not captured",
                where=line_of(node),
                hint="Write it without the in-place operator.",
            )
        meta = meta_of(parent.meta["val"])
        if not _follows_inputs(step.args, step.kwargs):
            return self.constants.compute(step, meta)
        return self.values.opaque(node, step, meta, 0)

    # --- what gives no single tensor

    def _other(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if node.target is operator.getitem:
            self._note_parent(node, node.all_input_nodes[0].all_input_nodes)
            self.storage.bind(node, self._piece(node))
        elif _is_number(value):
            if value is not None or node.users:
                found = expression(value)
                self.storage.bind(node, Size(found) if hasattr(found, "free_symbols") else found)
        else:
            args, kwargs = self._arguments(node)
            step = Step(node.target, args, kwargs)  # type: ignore[arg-type]
            self.storage.bind(node, self.values.opaque(node, step, meta_of(value), 1))

    def _piece(self, node: fx.Node) -> Any:
        """One of several results; a part of a split is a selection of what was split."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        if source not in self.storage.bound and functional_name(source.target) in SPLITS:
            part = self._part(node, source)
            if part is not None:
                return part
            self.storage.bind(source, self._again(source))
        held, meta = self.storage.read(source), meta_of(node.meta["val"])
        step = Step(operator.getitem, (held, index), {})
        if isinstance(held, Constant):
            return self.constants.compute(step, meta)
        return self.values.opaque(node, step, meta, 0)

    def _part(self, node: fx.Node, split: fx.Node) -> Any:
        whole, where, meta = self.storage.read(split.all_input_nodes[0]), span(node), meta_of(node.meta["val"])
        if not isinstance(whole, Ref) or where is None or meta is None:
            return None
        axis, start, stop = where
        step = Step(aten.slice.Tensor, (whole, axis, start, stop), {})

        def define(number: int) -> Node:
            found = None
            if meta.dtype.is_floating_point:
                op = self.values.operation(step, {"self": whole}, meta, number)
                found = picked(op, whole, axis, tuple(range(start, stop)))
            return found if found is not None else Opaque((whole.value,), operators=0)

        return self.values.add(node, step, define, meta, 0)
