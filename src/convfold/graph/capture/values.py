"""The values of the program while it grows: shapes, types, steps and homes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from convfold.graph import rules
from convfold.graph.capture.constants import Constants
from convfold.graph.capture.counting import Executed, products
from convfold.graph.capture.marks import Recorder
from convfold.graph.capture.places import line_of
from convfold.graph.captured import Constant, Ref, Size, Step
from convfold.graph.operation import RULES, Meta, Operation, functional_name
from convfold.graph.program import Linear, Node, Opaque, Place, Program, Value
from convfold.graph.rules.views import Views
from convfold.graph.sizes import Sizes, expression

__all__ = ["Values", "meta_of", "sources"]

# Operators whose multiply-accumulates count, where no rule makes a linear map of them.
_PRODUCTS = frozenset({"matmul", "bmm", "mm", "einsum", "baddbmm", "addmm", "linear", "scaled_dot_product_attention"})

assert rules  # importing it registers the rules


def sources(step: Step) -> tuple[int, ...]:
    """The values that a step reads."""
    found = (leaf.value for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Ref))
    return tuple(dict.fromkeys(found))


def meta_of(tensor: Any) -> Meta | None:
    """Shape and type of a traced tensor; None for what is none."""
    if not isinstance(tensor, Tensor):
        return None
    strides = tuple(expression(s) for s in tensor.stride()) if tensor.layout == torch.strided else None
    return Meta(tuple(expression(size) for size in tensor.shape), tensor.dtype, strides)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _named(step: Step) -> dict[str, Any]:
    """The arguments of a step by the names of the operator's schema, in its order, defaults included."""
    arguments = step.target._schema.arguments  # type: ignore[attr-defined]
    named = dict(zip((a.name for a in arguments), step.args, strict=False))
    named.update({a.name: a.default_value for a in arguments if a.name not in named and a.has_default_value()})
    return {**named, **step.kwargs}


def _shaped(step: Step, meta: Meta | None) -> Step:
    """A change of layout to the shape of another value, with that shape in the value's place: it is not read."""
    name = functional_name(step.target)
    if meta is None or name not in ("reshape_as", "view_as", "expand_as"):
        return step
    shape = [size if isinstance(size, int) else Size(size) for size in meta.dims]
    target = torch.ops.aten.expand.default if name == "expand_as" else torch.ops.aten.reshape.default
    return Step(target, (step.args[0], shape), {}, step.writes)


class Values:
    """A program, its steps, and which call each value was computed in (`call` is the current one)."""

    def __init__(self, sizes: Sizes, constants: Constants, recorder: Recorder) -> None:
        self.sizes, self.constants, self.recorder = sizes, constants, recorder
        self.program = Program()
        self.steps: dict[int, Step] = {}
        self.home: dict[int, int] = {}
        self.dims: dict[int, tuple[Any, ...]] = {}
        self.call = 0
        self._metas: dict[int, Meta | None] = {}
        self._count = Executed()
        self.views = Views(lambda source: sizes.pairs(self.dims[source.value]))

    def input(self, tensor: Tensor) -> Ref:
        """A new input of the program."""
        meta = meta_of(tensor)
        assert meta is not None
        number = self.program.add(Value(self.sizes.concrete(meta.dims), _name(meta.dtype), Place("input")))
        self.dims[number], self._metas[number] = meta.dims, meta
        return Ref(number)

    def add(
        self, node: fx.Node | None, step: Step, define: Callable[[int], Node], meta: Meta | None, count: int
    ) -> Ref:
        """A new value with its step, which executes `count` operators; `define` gives its node by its number."""
        record = self.recorder.records[self.call]
        line = "" if node is None else line_of(node)
        place = Place(functional_name(step.target), record.path, record.kind, line)
        dims = () if meta is None else meta.dims
        number = len(self.program.values)
        value = Value(self.sizes.concrete(dims), "" if meta is None else _name(meta.dtype), place)
        self.program.add(value, define(number))
        self.dims[number], self._metas[number] = dims, meta
        self.steps[number], self.home[number] = step, self.call
        computed = sum(self._executed(claimed) for claimed in self.constants.claim(step))
        self.program.operators[number] = count + computed
        if computed:
            self.program.baked[number] = computed
        return Ref(number)

    def opaque(self, node: fx.Node | None, step: Step, meta: Meta | None, count: int) -> Ref:
        """A new value that nothing more is known of."""
        return self.add(node, step, lambda number: Opaque(sources(step), operators=count), meta, count)

    def operator(self, node: fx.Node, step: Step, meta: Meta | None) -> Ref:
        """A new value as the rule of its operator sees it; opaque without one."""
        step = _shaped(step, meta)
        named, count = _named(step), self._executed(step)

        def define(number: int) -> Node:
            found = None if meta is None else self._ruled(step, named, meta, number)
            return found if found is not None else self._opaque(step, count)

        ref = self.add(node, step, define, meta, count)
        # What became a linear map of the base starts a chain of its own.
        if meta is not None and not isinstance(self.program.nodes[ref.value], Linear):
            self.views.note(self.operation(step, named, meta, ref.value))
        return ref

    def operation(self, step: Step, named: dict[str, Any], meta: Meta, number: int) -> Operation:
        """A step as rules see it."""
        name = functional_name(step.target)
        return Operation(name, named, meta, number, self.sizes, self.meta, self.views.base, self._integers)

    def meta(self, argument: Ref | Constant) -> Meta:
        """Shape and type of an argument that is a tensor."""
        if isinstance(argument, Constant):
            return self.constants.meta(argument.key)
        # Several results have no type: one that no rule takes.
        return self._metas[argument.value] or Meta((), torch.uint8)

    def _integers(self, constant: Constant) -> tuple[int, ...] | None:
        tensor = self.constants(constant.key)
        if tensor.dtype not in (torch.int64, torch.int32) or tensor.dim() != 1:
            return None
        return tuple(int(i) for i in tensor.tolist())

    def _ruled(self, step: Step, named: dict[str, Any], meta: Meta, number: int) -> Node | None:
        rule = RULES.get(functional_name(step.target))
        if rule is None or not meta.dtype.is_floating_point or step.target.namespace != "aten":  # type: ignore[attr-defined]
            return None
        return rule(self.operation(step, named, meta, number))

    def _opaque(self, step: Step, count: int) -> Opaque:
        """A definition that nothing is known of but its cost."""
        if functional_name(step.target) not in _PRODUCTS:
            return Opaque(sources(step), operators=count)
        constant = any(isinstance(leaf, Constant) for leaf in tree_leaves((step.args, step.kwargs)))
        return Opaque(sources(step), products(step.target, *self._hollow(step)), int(constant), count)

    def _executed(self, step: Step) -> int:
        """How many operators the step executes; counted on the meta device, without values."""
        if step.target is operator.getitem:
            return 0
        return self._count(step.target, *self._hollow(step))

    def _hollow(self, step: Step) -> Any:
        """The arguments of a step with tensors on the meta device."""

        def leaf(value: Any) -> Any:
            if isinstance(value, Size):
                whole = getattr(value.expression, "is_integer", False)
                return self.sizes.pair(value.expression)[0] if whole else 1.0
            if isinstance(value, Constant) and self.constants.metas[value.key] is None:
                # Several tensors at once, as unbinding a parameter gives them.
                return tree_map(lambda t: t.to("meta") if isinstance(t, Tensor) else t, self.constants(value.key))
            if isinstance(value, (Ref, Constant)):
                meta = self.meta(value)
                shape = self.sizes.concrete(meta.dims)
                if meta.strides is None:
                    return torch.empty(shape, dtype=meta.dtype, device="meta")
                # What torch composes an operator of depends on the strides (a Linear on a transposed value).
                strides = self.sizes.concrete(meta.strides)
                return torch.empty_strided(shape, strides, dtype=meta.dtype, device="meta")
            return torch.device("meta") if isinstance(value, torch.device) else value

        return tree_map(leaf, (step.args, step.kwargs))
