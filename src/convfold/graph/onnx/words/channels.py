"""Concatenations and selections."""

from __future__ import annotations

from convfold.errors import NotFoldable
from convfold.graph.captured import Constant, Ref
from convfold.graph.maps import Map, after
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.program import Linear, Node, Term
from convfold.graph.rules.channels import picked, sliced

__all__: list[str] = []


@word("Concat")
def concat(at: Reading) -> Node | None:
    """The pieces one after another."""
    axis = at.attr("axis", 1)
    return at.rule("cat", tensors=list(at.inputs), dim=axis) if all(isinstance(p, Ref) for p in at.inputs) else None


@word("Slice")
def slice_(at: Reading) -> Node | None:
    """``X[starts:ends:steps]`` on some axes"""
    source = at.source
    if source is None:
        return None
    if at.version < 10:
        starts, ends, axes, steps = at.attr("starts"), at.attr("ends"), at.attr("axes"), None
    else:
        if any(at.follows(index) for index in range(1, 5)):
            return None
        starts, ends, axes, steps = (at.numbers(index) for index in range(1, 5))
    if starts is None or ends is None:
        return None
    axes = axes if axes is not None else list(range(len(starts)))
    steps = steps if steps is not None else [1] * len(starts)
    op, rank = at.operation("slice", {"self": source}), len(at.out.dims)
    found: list[Map] = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # Of one axis the size after is looked at; a rule that keeps the whole axis gives the identity.
        before, place = at.dims(source)[axis % rank], axis % rank
        node = None
        if step == 1 and start == 0 and (end >= 2**31 - 1 or (isinstance(before, int) and end >= before)):
            continue
        if step > 0:
            node = sliced(op, source, place, start, end, step)
        elif isinstance(before, int):
            node = picked(op, source, place, tuple(range(before)[start:end:step]))
        if not isinstance(node, Linear):
            return None
        found.append(node.terms[0].map)
    if not found:
        return at.same()
    whole = found[0]
    try:
        for m in found[1:]:
            whole = after(whole, m)
    except NotFoldable:
        return None
    return Linear((Term(whole, source.value),))


@word("Gather")
def gather(at: Reading) -> Node | None:
    """``X[:, indices]``"""
    index = at.input(1)
    if not isinstance(index, Constant) or len(at.dims(index)) != 1:
        return None
    return at.rule("index_select", self=at.input(0), index=index, dim=at.attr("axis", 0))
