"""What is known of each tensor that is alive: a trace per axis of the inputs, found again by where the tensor lies."""

from __future__ import annotations

import weakref
from typing import NamedTuple

from torch import Tensor, UntypedStorage

from convfold.cost.receptive.reach import Reach, constant

__all__ = ["Axis", "Known", "Memory", "Trace", "joined"]

# An input by name, and one of its dimensions.
Axis = tuple[str, int]


class Trace(NamedTuple):
    """The reach along one axis; `reason` says why it had to be taken larger than it may be."""

    reach: Reach
    reason: str = ""


# Axes that are not there do not matter to the tensor.
Known = dict[Axis, Trace]

_Place = tuple[int, tuple[int, ...], tuple[int, ...]]


def joined(left: Trace, right: Trace, shape: tuple[int, ...], name: str) -> Trace:
    """What elements of a tensor of that shape depend on that read both, in the operator `name`."""
    a, b, reason = left.reach, right.reach, left.reason or right.reason
    if (both := a.join(b)) is not None:
        return Trace(both, reason)
    # Rows of one and columns of the other: each reads all of its own, what they share stays.
    shared = set(a.terms) & set(b.terms)
    for dim in {term.dim for term in {*a.terms, *b.terms} - shared}:
        a, b = a.whole(dim, shape[dim]), b.whole(dim, shape[dim])
    if (both := a.join(b)) is not None:
        return Trace(both, reason)
    both = constant(a.span(shape)).join(constant(b.span(shape)))
    assert both is not None  # constants can always be joined
    return Trace(both, reason or f"{name} joins branches of different strides")


class Memory:
    """Traces by storage and by how a tensor lies in it, held no longer than the storage itself.

    `sizes` are those of the axes. A tensor keeps neither its Python object nor its address through autograd;
    where it lies it keeps.
    """

    def __init__(self, sizes: dict[Axis, int]) -> None:
        self._sizes = sizes
        self._alive: dict[int, dict[_Place, Known]] = {}
        self._watched: dict[int, weakref.ref[UntypedStorage]] = {}

    def of(self, tensor: Tensor) -> Known:
        """What is known of a tensor: nothing of weights and constants, everything of a view not seen before."""
        try:
            views = self._alive.get(tensor.untyped_storage()._cdata, {})
        except NotImplementedError:  # sparse and nested tensors have no storage
            return {}
        known = views.get(_place(tensor))
        if known is not None:
            return known
        return {axis: self._all(axis, "a view is not known") for one in views.values() for axis in one}

    def keep(self, tensor: Tensor, known: Known, *, written: bool = False) -> None:
        """Note what is known of a tensor; with `written` it changes the other views of its storage."""
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:
            return
        key, place = storage._cdata, _place(tensor)
        if key not in self._alive:
            alive, watched = self._alive, self._watched

            def freed(_: object) -> None:
                alive.pop(key, None)
                watched.pop(key, None)

            alive[key], watched[key] = {}, weakref.ref(storage, freed)
        views = self._alive[key]
        if written:
            for other in [view for view in views if view != place]:
                views[other] = self._written(views[other], other, known, place)
        views[place] = known

    def _written(self, before: Known, there: _Place, new: Known, here: _Place) -> Known:
        """What the view at `there` depends on after a write to the view at `here`."""
        result = dict(before)
        for axis, trace in new.items():
            old = before.get(axis, trace)
            both = old.reach.join(trace.reach)
            dims = old.reach.dims | trace.reach.dims
            # Other channels of the same positions are no other positions.
            if both is not None and there[2] == here[2] and all(there[1][d] == here[1][d] for d in dims):
                result[axis] = Trace(both, old.reason or trace.reason)
            else:
                result[axis] = self._all(axis, old.reason or trace.reason or "a tensor is written in pieces")
        return result

    def _all(self, axis: Axis, reason: str) -> Trace:
        return Trace(constant((0, self._sizes[axis] - 1)), reason)


def _place(tensor: Tensor) -> _Place:
    # The stride of a dimension of size one says nothing, and torch changes it in passing.
    strides = (0 if size == 1 else stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset()), tuple(tensor.shape), tuple(strides)
