"""How a sum of linear maps is spelled in ONNX: which nodes, in which order. Price and emission both follow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Literal

from convfold.geometry import Axis, Window, point
from convfold.graph.maps import Block, Given, Map
from convfold.graph.program import Linear, Term

__all__ = [
    "NEWEST",
    "STEPS",
    "Form",
    "Summand",
    "covering",
    "crops",
    "divisor_of",
    "form_of",
    "place_of",
    "step_of",
    "ungrouped",
]

NEWEST = 24
# The operator sets that brought what these forms need: steps of Slice, dilations of AveragePool.
STEPS, DILATIONS = 10, 19
# Nodes that add a bias themselves.
_BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True, eq=False)
class Summand:
    """One term and the nodes that compute it, first to last; `minus`: it is subtracted, by the node that joins it."""

    term: Term
    nodes: tuple[str, ...]
    minus: bool = False


@dataclass(frozen=True, eq=False)
class Form:
    """A sum: its terms in order of execution, and whether a node takes the shift in or one is needed for it."""

    summands: tuple[Summand, ...]
    shift: Literal["none", "inside", "apart"]

    @property
    def operators(self) -> int:
        """The nodes that are executed."""
        joins = len(self.summands) - 1 + (self.shift == "apart")
        return joins + sum(len(summand.nodes) for summand in self.summands)


def form_of(node: Linear, rank: int, opset: int = NEWEST) -> Form | None:
    """The nodes for a sum of maps on values of `rank` axes; None where ONNX has none for it."""
    found = [_summand(term, rank, opset) for term in node.terms]
    summands = [summand for summand in found if summand is not None]
    if len(summands) < len(found):
        return None
    constant = node.shift is not None and not node.mapped
    if constant and len(summands) == 1 and _normalises(node, rank):
        return Form((Summand(node.terms[0], ("BatchNormalization",)),), "inside")
    summands.sort(key=lambda summand: (not _takes(summand, node), not summand.term.map.dense, summand.minus))
    inside = constant and _takes(summands[0], node)
    if node.shift is None and summands[0].minus:
        summands[0] = Summand(summands[0].term, ("Neg",))
    return Form(tuple(summands), "none" if node.shift is None else "inside" if inside else "apart")


def _normalises(node: Linear, rank: int) -> bool:
    """Whether it is a batch normalisation: a scale and a shift of each channel."""
    m = node.terms[0].map
    return m.kind == "diagonal" and m.axis == 1 and rank >= 2 and node.axis in (None, 1)


def _takes(summand: Summand, node: Linear) -> bool:
    """Whether its last node could add the sum's shift."""
    return summand.nodes[-1:] != () and summand.nodes[-1] in _BIASED and node.axis in (None, summand.term.map.axis)


def _summand(term: Term, rank: int, opset: int) -> Summand | None:
    m = term.map
    if m.kind == "scalar" and m.factor == -1:
        return Summand(term, (), minus=True)
    nodes = _nodes(m, rank, opset)
    return None if nodes is None else Summand(term, nodes)


def _nodes(m: Map, rank: int, opset: int) -> tuple[str, ...] | None:
    if m.kind == "identity":
        return ()
    if m.kind in ("scalar", "diagonal"):
        return ("Mul",)
    if m.kind == "select":
        step = step_of(m.index or ())
        return ("Gather",) if step is None or (opset < STEPS and step != 1) else ("Slice",)
    if m.kind == "pool":
        return _pool(m, rank, opset)
    place = place_of(m, rank)
    if m.kind == "transposed":
        return ("ConvTranspose",) if place == "conv" and all(map(_is_transposed, m.window)) else None
    if place == "conv":
        return ("Slice", "Conv") if crops(m.window) else ("Conv",)
    if place == "moved":
        return ("Transpose", "MatMul", "Transpose")
    return None if place is None else ("Gemm",) if place == "gemm" else ("MatMul",)


def place_of(m: Map, rank: int) -> Literal["conv", "gemm", "matmul", "moved"] | None:
    """Which node a dense map is on a value of `rank` axes: a product moves its axis to the end if it must."""
    if m.window or m.kind == "transposed":
        return "conv" if m.axis == 1 and len(m.window) <= rank - 2 else None
    if m.axis == rank - 1:
        return "gemm" if rank == 2 else "matmul"
    return "conv" if m.axis == 1 and 3 <= rank <= 5 else "moved"


def covering(m: Map, rank: int) -> Window:
    """The window on all axes behind the channels."""
    return (*m.window, *point(rank - 2 - len(m.window)))


def crops(window: Window) -> bool:
    """Whether any padding is negative."""
    return any(axis.lo < 0 or axis.hi < 0 for axis in window)


def _is_transposed(axis: Axis) -> bool:
    """Whether ConvTranspose holds the padding: what it adds at the end is less than a step."""
    return axis.lo >= 0 and -axis.hi < max(axis.stride, axis.dilation)


def step_of(index: tuple[int, ...]) -> int | None:
    """The step of channels that are evenly spaced, forwards or backwards; None for others."""
    if len(index) == 1:
        return 1
    step = index[1] - index[0] if index else 0
    return step if step and all(b - a == step for a, b in pairwise(index)) else None


def divisor_of(m: Map) -> float:
    """What the sum over the window of a pooling is divided by."""
    recipe = m.recipe
    while isinstance(recipe, Block):
        recipe = recipe.whole.recipe
    assert isinstance(recipe, Given)
    assert isinstance(recipe.key, tuple)
    return float(recipe.key[1])


def _pool(m: Map, rank: int, opset: int) -> tuple[str, ...] | None:
    """AveragePool holds a padding that is smaller than the kernel; a window of one tap is a pad or a crop."""
    window = m.window
    if m.axis != 1 or len(window) != rank - 2 or not 3 <= rank <= 5:
        return None
    taps = prod(axis.kernel for axis in window)
    scaled = () if divisor_of(m) == taps else ("Mul",)
    strided, padded = any(axis.stride > 1 for axis in window), any(axis.lo > 0 or axis.hi > 0 for axis in window)
    if taps == 1:
        if not strided:
            return (*(("Pad",) if padded else ("Slice",) if crops(window) else ("AveragePool",)), *scaled)
        before = ("Pad",) if padded else ("Slice",) if crops(window) and opset < STEPS else ()
        return (*before, "Slice" if opset >= STEPS else "AveragePool", *scaled)
    if opset < DILATIONS and any(axis.kernel > 1 and axis.dilation > 1 for axis in window):
        return None
    wide = any(max(axis.lo, axis.hi) >= axis.kernel for axis in window)
    return (*(("Pad",) if wide else ("Slice",) if crops(window) else ()), "AveragePool", *scaled)


def ungrouped(m: Map, rank: int) -> Map:
    """The map as it is executed: a product has no groups."""
    return m if m.groups == 1 or place_of(m, rank) in ("conv", None) else replace(m, groups=1)
