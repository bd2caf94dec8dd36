"""Receptive fields of a whole model, followed operator by operator along the axes of its inputs.

For a chain the law is ``size_out = size_in + (span - 1) * jump``, ``jump_out = jump * stride``; branches
read the hull of what each reads. Here both follow from intervals (`reach.Reach`), so offsets of branches,
phases of upsamplings and dimensions that are moved, merged or split are exact. Where neighbouring elements
can no longer be told apart (attention, a global pooling, a matrix product over positions) the field is
the whole input; where an operator is not understood it is the whole input too, and `Field.reason` names it.

Theory and borders as in Araujo, Norris, Sim: Computing receptive fields of convolutional neural networks,
Distill 2019: a field that hangs over the border counts in full, so it may be larger than the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from convfold.cost.counting.leaves import tensors
from convfold.cost.receptive.call import Call, Reads
from convfold.cost.receptive.known import Axis, Known, Memory, Trace, joined
from convfold.cost.receptive.reach import Bounds, Reach, constant, identity
from convfold.cost.receptive.rules import Rule, rule_of
from convfold.graph.inputs import ExampleInputs
from convfold.graph.operators import operator_name

__all__ = ["Field", "ReceptiveObserver", "Span"]

_WINDOWED = ("convolution", "_convolution", "avg_pool", "max_pool", "_adaptive", "adaptive", "upsample", "_upsample")


@dataclass(frozen=True)
class Span:
    """The field along one axis: `size` positions, `jump` between the fields of neighbours, the first one's `start`.

    `whole` when every element depends on all of the axis; then the jump is 0 and the size is the axis'.
    """

    size: int
    jump: Fraction
    start: int
    whole: bool = False


@dataclass(frozen=True)
class Field:
    """The field of a tensor on one input, one span per spatial axis; `reason` says why it had to be given up."""

    input: str
    spans: tuple[Span, ...]
    reason: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Positions per axis; () when the input has no spatial axis."""
        return tuple(span.size for span in self.spans)

    @property
    def whole(self) -> bool:
        """Whether it is the whole input, on every axis."""
        return bool(self.spans) and all(span.whole for span in self.spans)


class ReceptiveObserver:
    """Follows the reach of every tensor that executed operators make; `inputs` are those of the model.

    `by_module` is the field of the last output that each module made itself, by path; `of` gives that of
    any tensor still alive, such as the model's outputs. Each is on the first input that has spatial axes
    and that it depends on. Spatial axes are those that a convolution, pooling or resizing slides along;
    without any, all but the first two.
    """

    def __init__(self, inputs: ExampleInputs) -> None:
        self._sizes: dict[Axis, int] = {}
        self._memory = Memory(self._sizes)
        self._last: dict[str, Known] = {}
        self._slid: set[Axis] = set()
        for name, value in inputs.named().items():
            for tensor in tensors(value):
                axes = range(1, tensor.dim())
                self._sizes.update({(name, axis): int(tensor.shape[axis]) for axis in axes})
                self._memory.keep(tensor, {(name, axis): Trace(identity(axis)) for axis in axes})

    @property
    def by_module(self) -> dict[str, Field]:
        """The field of the last output made by each module."""
        return {path: self._field(known) for path, known in self._last.items()}

    @property
    def reasons(self) -> dict[str, str]:
        """Why fields were given up, each with the first module where it happened."""
        found: dict[str, str] = {}
        for path, told in self.by_module.items():
            if told.reason:
                found.setdefault(told.reason, path)
        return found

    def of(self, tensor: Tensor) -> Field:
        """The field of a tensor that is alive; empty for one that does not depend on the inputs."""
        return self._field(self._memory.of(tensor))

    def positions(self, tensor: Tensor, index: Sequence[int]) -> dict[Axis, Bounds]:
        """From where to where, on every axis (input, dimension), the element at `index` depends on the inputs.

        None when on no position at all; borders are not looked at: positions outside the input are zeros.
        """
        return {axis: trace.reach.of(index) for axis, trace in self._memory.of(tensor).items()}

    def see(self, func: Any, args: Any, kwargs: Any, out: Any, path: str) -> None:
        """Follow one executed operator, called by the innermost running module at `path`."""
        outputs = tensors(out)
        if not outputs:
            return
        name = operator_name(func)
        if name.startswith("as_strided"):
            # Known where it only says again how the tensor lies.
            self._last[path] = self._memory.of(outputs[0])
            return self._memory.keep(outputs[0], self._last[path])
        arguments = func._schema.arguments
        named = {a.name: a.default_value for a in arguments if a.has_default_value()}
        named.update({a.name: value for a, value in zip(arguments, args, strict=False)})
        named.update(kwargs)
        named = {a.name: named.get(a.name) for a in arguments if not a.is_out}
        rule = rule_of(func, name)
        # Results are found before any is noted: an operator may write what it reads.
        calls = [Call(name, named, tensor, place) for place, tensor in enumerate(outputs)]
        found = [self._result(rule, call, outputs[0].shape) for call in calls]
        if name.startswith(_WINDOWED):
            self._slides(outputs[0], calls[0].x)
        for tensor, known in zip(outputs, found, strict=True):
            self._memory.keep(tensor, known, written=func._schema.is_mutable)
        self._last[path] = found[0]

    def _slides(self, out: Tensor, x: Tensor) -> None:
        unmoved = 2 if x.dim() == out.dim() else 1
        for axis, (reach, _) in self._memory.of(x).items():
            if any(term.dim >= unmoved and not term.modulus for term in reach.terms):
                self._slid.add(axis)

    def _result(self, rule: Rule | None, call: Call, first: Sequence[int]) -> Known:
        alike = call.place == 0 or call.out.shape == first or "split" in call.name or call.name == "unbind"
        if rule is None or not alike:
            reason = f"{call.name} is not known" if rule is None else ""
            reads: Reads = [(tensor, _lose) for tensor in call.operands]
        else:
            reason, reads = f"{call.name} moves positions about", rule(call)
        result: Known = {}
        for tensor, step in reads:
            for axis, trace in self._memory.of(tensor).items():
                if (through := step(trace.reach)) is not None:
                    now = Trace(through, trace.reason)
                else:
                    now = Trace(constant(trace.reach.span(tuple(tensor.shape))), trace.reason or reason)
                before = result.get(axis)
                result[axis] = now if before is None else joined(before, now, tuple(call.out.shape), call.name)
        return result

    def _field(self, known: Known) -> Field:
        for name in {name: None for name, _ in self._sizes}:
            axes = [axis for axis in self._sizes if axis[0] == name]
            spatial = [axis for axis in axes if axis in self._slid] or [axis for axis in axes if axis[1] >= 2]
            traces = [known[axis] for axis in spatial if axis in known]
            if traces:
                spans = (_span(known.get(axis), self._sizes[axis]) for axis in spatial)
                return Field(name, tuple(spans), next((t.reason for t in traces if t.reason), ""))
        return Field("", ())


def _lose(reach: Reach) -> None:
    return None


def _span(trace: Trace | None, size: int) -> Span:
    if trace is None or trace.reach.size == 0:
        return Span(0, Fraction(0), 0)
    reach = trace.reach
    start = next(bounds[0] for bounds in reach.table if bounds is not None)
    if reach.terms:
        return Span(reach.size, reach.jump, start)
    first, last = max(0, start), min(size - 1, start + reach.size - 1)
    return Span(max(0, last - first + 1), Fraction(0), first, first == 0 and last == size - 1)
