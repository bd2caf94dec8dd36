"""Small neutral programs with random weights, and their values in float64 by convolving term by term."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.algebra import Affine, Conv, ConvTranspose, Identity, Select, apply
from convfold.geometry import Axis, conv_window, out_size
from convfold.graph.maps import IDENTITY, Given, Map, select
from convfold.graph.program import (
    Concat,
    Elementwise,
    Linear,
    Node,
    Opaque,
    Program,
    ShiftGiven,
    Spatial,
    Term,
    Value,
)
from convfold.graph.weights import Weights

FUNCTIONS: dict[Any, Any] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "flat": lambda x: x.flatten(2),
    "turn": lambda x: x.transpose(1, 2),
    "flatten": lambda x: x.flatten(1),
    "shuffle": lambda x: F.pixel_shuffle(x, 2),
    "edge": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "square": lambda x: x * x,
}


class Build:
    """Writes a program value by value; `run` computes any definitions of the same values."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.program = Program()
        self.tensors: dict[Any, Tensor] = {}
        self.likes: dict[int, str] = {}
        self.generator = torch.Generator().manual_seed(seed)
        self.x = self.program.add(Value(shape))

    def random(self, *shape: int) -> tuple[str, Tensor]:
        key = f"t{len(self.tensors)}"
        self.tensors[key] = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return key, self.tensors[key]

    def shape(self, number: int) -> tuple[int, ...]:
        return self.program.values[number].shape

    def conv(self, source: int, rows: int, kernel: Any = 1, bias: bool = True, groups: int = 1, **window: Any) -> int:
        batch, cols, *size = self.shape(source)
        axes = conv_window(len(size), kernel, **window)
        key, _ = self.random(rows, cols // groups, *(a.kernel for a in axes))
        m = Map("conv", rows, cols, 1, axes, groups, Given(key))
        shift = ShiftGiven(self.random(rows)[0]) if bias else None
        return self.program.add(
            Value((batch, rows, *out_size(axes, tuple(size)))), Linear((Term(m, source),), shift, 1)
        )

    def linear(self, source: int, rows: int, bias: bool = True) -> int:
        shape = self.shape(source)
        axis = len(shape) - 1
        m = Map("conv", rows, shape[-1], axis, (), 1, Given(self.random(rows, shape[-1])[0]))
        shift = ShiftGiven(self.random(rows)[0]) if bias else None
        return self.program.add(Value((*shape[:-1], rows)), Linear((Term(m, source),), shift, axis))

    def norm(self, source: int, axis: int = 1, shift: bool = True) -> int:
        width = self.shape(source)[axis]
        m = Map("diagonal", width, width, axis, recipe=Given(self.random(width)[0]))
        bias = ShiftGiven(self.random(width)[0]) if shift else None
        return self.program.add(Value(self.shape(source)), Linear((Term(m, source),), bias, axis if shift else None))

    def scale(self, source: int, factor: float) -> int:
        return self.program.add(Value(self.shape(source)), Linear((Term(Map("scalar", factor=factor), source),)))

    def add(self, *sources: int) -> int:
        return self.program.add(Value(self.shape(sources[0])), Linear(tuple(Term(IDENTITY, s) for s in sources)))

    def pool(self, source: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> int:
        batch, width, *size = self.shape(source)
        axes = conv_window(len(size), kernel, stride, padding)
        divisor = kernel ** len(size)
        m = Map("pool", width, width, 1, axes, width, Given(("average", divisor)))
        return self.program.add(Value((batch, width, *out_size(axes, tuple(size)))), Linear((Term(m, source),)))

    def crop(self, source: int, amount: tuple[int, int]) -> int:
        """Cut the same off both ends of each spatial axis that `amount` is negative for."""
        batch, width, *size = self.shape(source)
        axes = tuple(Axis(lo=n, hi=n) for n in amount)
        m = Map("pool", width, width, 1, axes, width, Given(("average", 1)))
        return self.program.add(Value((batch, width, *out_size(axes, tuple(size)))), Linear((Term(m, source),)))

    def slice(self, source: int, start: int, stop: int, axis: int = 1) -> int:
        shape = list(self.shape(source))
        m = select(tuple(range(start, stop)), shape[axis], axis)
        shape[axis] = stop - start
        return self.program.add(Value(tuple(shape)), Linear((Term(m, source),)))

    def concat(self, *pieces: int, axis: int = 1) -> int:
        shape = list(self.shape(pieces[0]))
        shape[axis] = sum(self.shape(piece)[axis] for piece in pieces)
        return self.program.add(Value(tuple(shape)), Concat(pieces, axis))

    def spatial(self, source: int, name: str, axes: tuple[tuple[int, int], ...], **how: Any) -> int:
        number = len(self.program.values)
        shape = FUNCTIONS[name](torch.zeros(self.shape(source))).shape
        how = {"ones": True, "free": False, **how}
        self.likes[number] = name
        return self.program.add(Value(tuple(shape)), Spatial(source, axes, like=number, **how))

    def act(self, source: int, name: str = "relu") -> int:
        number = len(self.program.values)
        self.likes[number] = name
        return self.program.add(Value(self.shape(source)), Elementwise(source, name, number))

    def opaque(self, source: int) -> int:
        number = len(self.program.values)
        self.likes[number] = "square"
        return self.program.add(Value(self.shape(source)), Opaque((source,)))

    def done(self, *outputs: int) -> Program:
        self.program.outputs = outputs
        return self.program

    def run(self, program: Program) -> dict[int, Tensor]:
        """Every live value of `program` on one random input, in float64."""
        generator = torch.Generator().manual_seed(1)
        known = {n: torch.randn(self.shape(n), generator=generator, dtype=torch.float64) for n in program.inputs}
        for number in program.live():
            if number not in known:
                known[number] = self.compute(program.nodes[number], number, known)
                assert tuple(known[number].shape) == program.values[number].shape, (number, known[number].shape)
        return known

    def compute(self, node: Node, number: int, known: dict[int, Tensor]) -> Tensor:
        if isinstance(node, Concat):
            return torch.cat([known[piece] for piece in node.pieces], node.axis)
        if isinstance(node, (Spatial, Elementwise)):
            return FUNCTIONS[self.likes[node.like]](known[node.source])
        if isinstance(node, Opaque):
            return FUNCTIONS[self.likes[number]](known[node.inputs[0]])
        weights = Weights(lambda key, dtype: self.tensors[key].to(dtype))
        total: Tensor | float = 0.0
        for term in node.terms:
            total = total + self.term(weights, term, known[term.source])
        assert isinstance(total, Tensor)
        if node.shift is not None:
            axis = node.axis if node.axis is not None else total.dim() - 1
            vector = weights.vector(node.shift, total.shape[axis])
            total = total + vector.reshape(*vector.shape, *(1,) * (total.dim() - axis - vector.dim()))
        return total

    def term(self, weights: Weights, term: Term, x: Tensor) -> Tensor:
        m = term.map
        if m.kind == "identity":
            return x
        if m.kind == "scalar":
            op = weights.op(m, 0, 1)
            assert isinstance(op, Affine)
            return x * op.scale
        axis = m.axis
        assert axis is not None
        x = x.movedim(axis, 1) if not m.window else x
        op = weights.op(m, len(m.window), m.cols)
        if isinstance(op, (Conv, ConvTranspose)):
            assert (tuple(op.window), op.groups) == (tuple(m.window), m.groups), (op.window, op.groups, m)
        if isinstance(op, (Conv, ConvTranspose)) and m.window:
            return apply(op, x)
        assert isinstance(op, (Affine, Select, Identity, Conv))
        flat = x.flatten(2) if x.dim() > 2 else x.unsqueeze(-1)
        if isinstance(op, Affine):
            y = flat * op.scale.reshape(-1, 1)
        elif isinstance(op, Select):
            y = flat[:, list(op.index)]
        else:
            y = torch.einsum("oi,bip->bop", op.weight, flat)
        y = y.reshape(y.shape[0], y.shape[1], *x.shape[2:])
        return y.movedim(1, axis) if not m.window else y
