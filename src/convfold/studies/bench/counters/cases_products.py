"""Cases of matrix products, with and without a layer, and of layers that have none."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.studies.bench.counters.cases import Calls, Case, law

__all__ = ["NOTHING", "PRODUCTS"]


def _given(*shapes: tuple[int, ...]) -> Any:
    return lambda: tuple(torch.randn(*shape) for shape in shapes)


def _indices(high: int, *shape: int) -> Any:
    return lambda: (torch.randint(high, shape),)


class _Tied(nn.Module):
    """An embedding whose table is also the last matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)
        self.mix = nn.Linear(4, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.mix(self.table(tokens)), self.table.weight)


class _Grouped(nn.Module):
    """A grouped linear layer: one matrix for each group of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ngi,gio->ngo", x.unflatten(1, (3, 4)), self.weight).flatten(1)


def _quantised() -> nn.Module:
    dynamic = torch.ao.quantization.quantize_dynamic
    model: nn.Module = dynamic(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5)), {nn.Linear})
    return model


_MATRICES = law(rows=4, inner=5, columns=6)
_BATCH = law(batch=3, rows=4, inner=5, columns=6)
_MIX = law(rows=4, inner=5, columns=6) + law(rows=4, inner=6, columns=7)

PRODUCTS = (
    Case("Linear", lambda: nn.Linear(4, 6), _given((3, 4)), law(rows=3, inputs=4, out=6)),
    Case("Linear without a bias", lambda: nn.Linear(4, 6, bias=False), _given((3, 4)), law(rows=3, inputs=4, out=6)),
    Case("Linear on tokens", lambda: nn.Linear(4, 6), _given((2, 5, 4)), law(batch=2, tokens=5, inputs=4, out=6)),
    Case("Linear on a vector", lambda: nn.Linear(4, 6), _given((4,)), law(inputs=4, out=6)),
    Case(
        "F.linear with an input as matrix",
        lambda: Calls(lambda x, w, b: F.linear(x, w, b)),
        _given((3, 4), (6, 4), (6,)),
        law(rows=3, inputs=4, out=6),
    ),
    Case("Linear in 3 groups", _Grouped, _given((2, 12)), law(batch=2, groups=3, inputs=4, out=5)),
    Case(
        "Linear, low rank",
        lambda: nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 6)),
        _given((3, 8)),
        law(rows=3, inputs=8, rank=2) + law(rows=3, rank=2, out=6),
    ),
    Case(
        "Linear, tied to an embedding",
        _Tied,
        _indices(11, 2, 5),
        law(tokens=10, inputs=4, out=4) + law(tokens=10, inputs=4, words=11),
    ),
    Case(
        "Linear, quantised dynamically",
        _quantised,
        _given((3, 4)),
        law(rows=3, inputs=4, out=6) + law(rows=3, inputs=6, out=5),
        real=True,
    ),
    Case(
        "Bilinear",
        lambda: nn.Bilinear(3, 4, 5),
        _given((2, 3), (2, 4)),
        law(batch=2, out=5, first=3, second=4),
    ),
    Case("matmul of matrices", lambda: Calls(torch.matmul), _given((4, 5), (5, 6)), _MATRICES),
    Case(
        "@ with a matrix in the model",
        lambda: Calls(lambda layer, x: x @ layer.weight.t(), nn.Linear(5, 6)),
        _given((4, 5)),
        _MATRICES,
    ),
    Case("matmul of batches", lambda: Calls(torch.matmul), _given((3, 4, 5), (3, 5, 6)), _BATCH),
    Case(
        "matmul, broadcast",
        lambda: Calls(torch.matmul),
        _given((2, 1, 4, 5), (3, 5, 6)),
        law(batch=2, heads=3, rows=4, inner=5, columns=6),
    ),
    Case("bmm", lambda: Calls(torch.bmm), _given((3, 4, 5), (3, 5, 6)), _BATCH),
    Case("addmm", lambda: Calls(torch.addmm), _given((6,), (4, 5), (5, 6)), _MATRICES),
    Case(
        "baddbmm",
        lambda: Calls(torch.baddbmm),
        _given((3, 4, 6), (3, 4, 5), (3, 5, 6)),
        _BATCH,
    ),
    Case(
        "addbmm",
        lambda: Calls(torch.addbmm),
        _given((4, 6), (3, 4, 5), (3, 5, 6)),
        _BATCH,
    ),
    Case("mv", lambda: Calls(torch.mv), _given((4, 5), (5,)), law(rows=4, inner=5)),
    Case("addmv", lambda: Calls(torch.addmv), _given((4,), (4, 5), (5,)), law(rows=4, inner=5)),
    Case("matmul of a matrix and a vector", lambda: Calls(torch.matmul), _given((4, 5), (5,)), law(rows=4, inner=5)),
    Case("dot", lambda: Calls(torch.dot), _given((5,), (5,)), law(inner=5)),
    Case("vdot", lambda: Calls(torch.vdot), _given((5,), (5,)), law(inner=5)),
    Case("addr", lambda: Calls(torch.addr), _given((4, 6), (4,), (6,)), law(rows=4, columns=6)),
    Case(
        "einsum, 1x1 convolution",
        lambda: Calls(lambda x, w: torch.einsum("nchw,oc->nohw", x, w)),
        _given((2, 4, 3, 5), (6, 4)),
        law(batch=2, positions=3 * 5, inputs=4, out=6),
    ),
    Case(
        "einsum, scores of heads",
        lambda: Calls(lambda q, k: torch.einsum("bqhd,bkhd->bhqk", q, k)),
        _given((2, 4, 3, 5), (2, 6, 3, 5)),
        law(batch=2, heads=3, queries=4, keys=6, width=5),
    ),
    Case(
        "tensordot",
        lambda: Calls(lambda a, b: torch.tensordot(a, b, dims=2)),
        _given((3, 4, 5), (4, 5, 6)),
        law(rows=3, inner=4 * 5, columns=6),
    ),
    Case(
        "a chain of three matrices",
        lambda: Calls(lambda a, b, c: torch.linalg.multi_dot((a, b, c))),
        _given((4, 5), (5, 6), (6, 7)),
        _MIX,
    ),
    Case(
        "matrix_power, 5",
        lambda: Calls(lambda a: torch.matrix_power(a, 5)),
        _given((3, 3)),
        law(products=3, rows=3, inner=3, columns=3),
    ),
    Case(
        "sparse matrix product",
        lambda: Calls(lambda a, b: torch.sparse.mm(a.to_sparse(), b)),
        lambda: (torch.eye(4), torch.randn(4, 6)),
        law(stored=4, columns=6),
        real=True,
    ),
    Case(
        "Linear on nested sequences",
        lambda: Calls(
            lambda layer, a, b: layer(torch.nested.as_nested_tensor([a, b], layout=torch.jagged)).values(),
            nn.Linear(4, 6),
        ),
        _given((2, 4), (3, 4)),
        law(tokens=2 + 3, inputs=4, out=6),
    ),
)

NOTHING = (
    Case("outer", lambda: Calls(torch.outer), _given((4,), (6,)), law()),
    Case(
        "einsum, elementwise",
        lambda: Calls(lambda a, b: torch.einsum("ij,ij->ij", a, b)),
        _given((3, 4), (3, 4)),
        law(),
    ),
    Case("Embedding", lambda: nn.Embedding(11, 4), _indices(11, 2, 5), law()),
    Case("EmbeddingBag", lambda: nn.EmbeddingBag(11, 4), _indices(11, 2, 5), law()),
    Case("BatchNorm2d", lambda: nn.BatchNorm2d(4), _given((2, 4, 3, 3)), law()),
    Case("LayerNorm and GELU", lambda: nn.Sequential(nn.LayerNorm(4), nn.GELU()), _given((2, 5, 4)), law()),
    Case("AvgPool2d and Softmax", lambda: nn.Sequential(nn.AvgPool2d(2), nn.Softmax(1)), _given((2, 4, 6, 6)), law()),
    Case(
        "grid_sample",
        lambda: Calls(lambda x, g: F.grid_sample(x, g, align_corners=False)),
        _given((2, 4, 6, 5), (2, 3, 3, 2)),
        law(),
    ),
    Case(
        "interpolate, bilinear",
        lambda: Calls(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
        _given((2, 4, 3, 3)),
        law(),
    ),
)
