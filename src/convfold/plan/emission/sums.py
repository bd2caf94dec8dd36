"""A sum of linear maps as one expression, and the modules and tensors that it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

from convfold.geometry import Window, point
from convfold.graph.maps import Block, Given, Map
from convfold.graph.program import Linear, Program, Shift, Term
from convfold.plan.emission.borders import borders_of
from convfold.plan.emission.padded import Padding

__all__ = ["Part", "conv_dims", "pads_apart", "spell_sum"]


@dataclass(frozen=True, eq=False)
class Part:
    """Something that a rewritten forward keeps: a convolution with its bias, a scale, a shift, a map of a bias,
    channel numbers. `value` is the one that it serves, `dims` the spatial axes of a convolution, `padding` what it
    executes before itself.
    """

    role: Literal["conv", "scale", "shift", "border", "index"]
    value: int
    term: Term | None = None
    shift: Shift | None = None
    axis: int | None = None
    dims: int = 0
    padding: Padding | None = None


def conv_dims(m: Map, rank: int) -> int | None:
    """The spatial axes of the torch module for a dense map on a value of `rank` axes; None: a Linear, moved there."""
    assert m.axis is not None
    dims = rank - m.axis - 1
    if dims == 0:
        return 0
    return dims if m.axis in (0, 1) and 1 <= dims <= 3 else None


def widened(m: Map, dims: int) -> Window:
    """The window of a map on `dims` spatial axes."""
    return (*m.window, *point(dims - len(m.window)))


def pads_apart(m: Map) -> bool:
    """Whether no convolution of torch holds the padding."""
    return m.kind == "conv" and any(axis.lo != axis.hi or axis.lo < 0 for axis in m.window)


def _pad(text: str, window: Window) -> str:
    pads = [side for axis in reversed(window) for side in (axis.lo, axis.hi)]
    return f"F.pad({text}, {tuple(pads)})"


def _dense(part: Part, name: str, source: str, rank: int) -> str:
    assert part.term is not None
    m = part.term.map
    if conv_dims(m, rank) is None:
        return f"{name}({source}.movedim({m.axis}, -1)).movedim(-1, {m.axis})"
    return f"{name}({_pad(source, m.window) if pads_apart(m) else source})"


def _divisor(m: Map) -> int:
    recipe = m.recipe
    while isinstance(recipe, Block):
        recipe = recipe.whole.recipe
    assert isinstance(recipe, Given)
    assert isinstance(recipe.key, tuple)
    return int(recipe.key[1])


def _pool(m: Map, source: str) -> str:
    """``F.avg_pool``; a padding alone, or what torch's pooling cannot hold of it, is padded before."""
    window, divisor = m.window, _divisor(m)
    taps = tuple(axis.kernel for axis in window)
    if any(axis.lo != axis.hi or axis.lo < 0 or 2 * axis.lo > axis.kernel for axis in window):
        source, window = _pad(source, window), tuple(axis.shifted(-axis.lo, -axis.hi) for axis in window)
    strides = tuple(axis.stride for axis in window)
    if prod(taps) == divisor == 1:
        steps = ", ".join("::" + (str(s) if s > 1 else "") for s in strides)
        return source if set(strides) == {1} else f"{source}[..., {steps.replace('::,', ':,')}]"
    pads = tuple(axis.lo for axis in window)
    if len(window) == 1 and divisor != prod(taps):
        rest = f"(1, {taps[0]}), (1, {strides[0]}), (0, {pads[0]}), divisor_override={divisor}"
        return f"F.avg_pool2d({source}.unsqueeze(-2), {rest}).squeeze(-2)"
    override = "" if divisor == prod(taps) else f", divisor_override={divisor}"
    return f"F.avg_pool{len(window)}d({source}, {taps}, {strides}, {pads}{override})"


def _select(part: Part, source: str, name: Callable[[Part], str]) -> str:
    assert part.term is not None
    index, axis = part.term.map.index, part.term.map.axis
    assert index is not None
    assert axis is not None
    step = index[1] - index[0] if len(index) > 1 else 1
    if step > 0 and index == tuple(range(index[0], index[-1] + 1, step)):
        cut = f"{index[0]}:{index[-1] + 1}" + (f":{step}" if step > 1 else "")
        return f"{source}[{', '.join([':'] * axis + [cut])}]"
    return f"{source}.index_select({axis}, {name(part)})"


def spell_sum(
    program: Program, value: int, node: Linear, var: Callable[[int], str], name: Callable[[Part], str]
) -> str:
    """``sum_j map_j(x_j) + shift`` with exactly the operators that the plan counts.

    `var` names values, `name` what is kept: it is called once for each part. A bias goes into the first
    convolution; a lone scale takes it along; a known factor is the ``alpha`` of an addition.
    """
    rank, shift, mapped = len(program.values[value].shape), node.shift, node.mapped
    terms = sorted(node.terms, key=lambda term: (not term.map.dense, term.map.kind == "scalar"))
    dense = terms[0].map.dense
    absorbed = shift if dense and not mapped else None
    assert absorbed is None or node.axis in (None, terms[0].map.axis)
    shift_name = "" if shift is None or mapped or absorbed is not None else name(_shift(value, node))
    text = ""
    for position, term in enumerate(terms):
        m, source = term.map, var(term.source)
        part = Part("scale", value, term, None, m.axis)
        if m.dense:
            bias = absorbed if position == 0 else None
            conv = Part("conv", value, term, bias, m.axis, conv_dims(m, rank) or 0)
            new = _dense(conv, name(conv), source, rank)
        elif m.kind == "diagonal" or (m.kind == "scalar" and m.factor is None):
            if len(terms) == 1 and shift_name:
                return f"torch.addcmul({shift_name}, {source}, {name(part)})"
            new = f"{source} * {name(part)}"
        elif m.kind == "select":
            new = _select(Part("index", value, term, None, m.axis), source, name)
        elif m.kind == "pool":
            new = _pool(m, source)
        elif m.kind == "scalar" and (text or (shift_name and len(terms) == 1)):
            text, shift_name = (text, shift_name) if text else (shift_name, "")
            text = f"torch.add({text}, {source}, alpha={m.factor!r})"
            continue
        else:
            new = source if m.kind == "identity" else f"{source} * {m.factor!r}"
        text = f"{text} + {new}" if text else new
    if mapped:
        assert shift is not None
        assert node.axis is not None
        # Where a stride decides what the last position sees, the size before it is looked at too.
        before = "" if borders_of(shift, rank - node.axis - 1) is not None else f", {var(node.inputs[0])}"
        return f"{name(Part('border', value, None, shift, node.axis))}({text}{before})"
    return f"{text} + {shift_name}" if shift_name else text


def _shift(value: int, node: Linear) -> Part:
    return Part("shift", value, None, node.shift, node.axis)
