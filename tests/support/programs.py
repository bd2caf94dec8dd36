"""Capturing a model for a test; what a program's nodes mean, by torch's own operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convfold.algebra import twin
from convfold.graph.capture import capture, evaluate, interpret
from convfold.graph.captured import Captured
from convfold.graph.inputs import example_inputs
from convfold.graph.maps import Map
from convfold.graph.program import Concat, Elementwise, Linear, ShiftGiven, Spatial
from support.make import randomise

Again = Callable[[int, int, Tensor], Tensor]
X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def made(model: nn.Module) -> nn.Module:
    return randomise(model, torch.Generator().manual_seed(4)).eval()


def check(model: nn.Module, inputs: Any = X, *, others: tuple[Any, ...] = ()) -> Captured:
    """Capture, and compare the steps with the model in float64, at the example's size and at `others`."""
    captured = capture(model, example_inputs(model, inputs))
    exact = twin(model).eval().double()
    for given in (inputs, *others):
        arguments = example_inputs(model, given)
        with torch.no_grad():
            found = arguments.map(lambda t: t.double() if t.is_floating_point() else t).call(exact)
        want = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        values = evaluate(captured, arguments)
        assert len(want) == len(captured.program.outputs)
        for number, tensor in zip(captured.program.outputs, want, strict=True):
            torch.testing.assert_close(values[number], tensor, rtol=1e-12, atol=1e-12)
    return captured


def mapped(m: Map, x: Tensor, captured: Any) -> Tensor:
    """A map by torch's own operators."""

    def given() -> Tensor:
        return captured.tensor(m.recipe.key, torch.float64)

    def beside(vector: Tensor, axis: int) -> Tensor:
        return vector.reshape(-1, *(1,) * (x.dim() - axis - 1))

    if m.kind == "identity":
        return x
    if m.kind == "scalar":
        return x * (m.factor if m.factor is not None else given())
    assert m.axis is not None
    assert x.shape[m.axis] == m.cols
    if m.kind == "diagonal":
        return x * beside(given(), m.axis)
    if m.kind == "select":
        return x.index_select(m.axis, torch.tensor(m.index))
    if m.kind == "conv" and not m.window:
        return F.linear(x, given())
    dims = len(m.window)
    assert m.axis == x.dim() - dims - 1
    axes = (tuple(a.stride for a in m.window), tuple(a.dilation for a in m.window))
    if m.kind == "transposed":
        inverse = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        whole = inverse(x, given(), None, axes[0], 0, 0, m.groups, axes[1])
        return F.pad(whole, [-p for a in reversed(m.window) for p in (a.lo, a.hi)])
    if m.kind == "pool":
        weight = torch.ones(m.rows, 1, *(a.kernel for a in m.window)).double() / m.recipe.key[1]
    else:
        weight = given()
    pads = [p for a in reversed(m.window) for p in (a.lo, a.hi)]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return convolve(F.pad(x, pads), weight, None, axes[0], 0, axes[1], m.groups)


def check_nodes(captured: Any, values: dict[int, Any], again: Again | None = None) -> None:
    """Every node's meaning against the value that its step computed.

    `captured` is a module or a file; ``again(number, source, value)`` computes a value of another source.
    """
    program = captured.program
    again = again or partial(_again, captured)
    for number, node in program.nodes.items():
        value = values[number]
        if isinstance(node, Linear):
            total = sum(mapped(term.map, values[term.source], captured) for term in node.terms)
            if node.shift is not None:
                assert isinstance(node.shift, ShiftGiven)
                shift = captured.tensor(node.shift.key, torch.float64)
                total = total + (
                    shift if node.axis is None else shift.reshape(-1, *(1,) * (value.dim() - node.axis - 1))
                )
            torch.testing.assert_close(total.expand_as(value), value, rtol=1e-12, atol=1e-12)
        elif isinstance(node, Concat):
            assert torch.equal(torch.cat([values[p] for p in node.pieces], node.axis), value)
        elif isinstance(node, Spatial):
            check_spatial(number, node, values, again)
        elif isinstance(node, Elementwise):
            flipped = again(number, node.source, values[node.source].flip(-1))
            assert torch.equal(flipped, value.flip(-1))


def _again(captured: Captured, number: int, source: int, value: Tensor) -> Tensor:
    return interpret(captured, [number], {source: value}, torch.float64, captured.example)[number]


def check_spatial(number: int, node: Spatial, values: dict[int, Any], again: Again) -> None:
    x, y = values[node.source], values[number]
    ones = again(number, node.source, torch.ones_like(x))
    assert torch.allclose(ones, torch.ones_like(y), rtol=1e-12, atol=1e-12) == node.ones
    before, after = node.spread
    for one, two in node.axes:
        scale = torch.randn(x.shape[one]).double()
        if before > 1:
            scale = scale[::before].repeat_interleave(before)
        bigger = scale.repeat_interleave(after) if before == 1 else scale[::before]
        got = again(number, node.source, x * scale.reshape(-1, *(1,) * (x.dim() - one - 1)))
        torch.testing.assert_close(got, y * bigger.reshape(-1, *(1,) * (y.dim() - two - 1)), rtol=1e-11, atol=1e-11)
