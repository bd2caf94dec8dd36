"""Random kernels of every shape, and the check that each method keeps its bound on them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from convfold.transform.decompose import METHODS, Row, decompose
from convfold.transform.decompose.layer import read_layer

CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MODES = ("zeros", "circular", "reflect", "replicate")
KINDS = ("normal", "decaying", "low rank", "zero channels", "tiny", "huge")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """One random layer, and the rank at which it is decomposed."""

    conv: nn.Module
    method: str
    rank: Any
    kind: str
    dtype: torch.dtype
    input: Tensor

    @property
    def full(self) -> bool:
        return bool(self.rank == METHODS[self.method].full(read_layer("", self.conv).shape))


def random_conv(seed: int, method: str) -> Case:
    """A convolution that the method suits, its kernel of one of `KINDS`, at a rank between 1 and the full one."""
    draw = random.Random(f"{method} {seed}")
    torch.manual_seed(draw.randrange(2**31))
    while True:
        conv, size = _draw(draw)
        shape = read_layer("", conv).shape
        if not METHODS[method].unsuited(shape):
            break
    kind = draw.choice(KINDS)
    dtype = draw.choices(DTYPES, (3, 2, 1, 1))[0]
    with torch.no_grad():
        conv.weight.copy_(_kernel(kind, conv.weight, dtype))
    conv = conv.to(dtype)
    full = METHODS[method].full(shape)
    if isinstance(full, tuple):
        rank: Any = tuple(draw.randint(1, most) for most in full)
    else:
        rank = draw.randint(1, min(full, 12) if method == "cp" else full)
    if draw.random() < 0.2 and method != "cp":
        rank = full
    return Case(conv, method, rank, kind, dtype, torch.randn(2, conv.in_channels, *size, dtype=torch.float64))


def _draw(draw: random.Random) -> tuple[Any, tuple[int, ...]]:
    dims = draw.choices((1, 2, 3), (1, 3, 1))[0]
    groups = draw.choice((1, 1, 1, 2, 3))
    kernel = tuple(draw.choice((1, 2, 3, 3, 5)) for _ in range(dims))
    dilation = tuple(draw.choice((1, 1, 2)) for _ in range(dims))
    size = tuple((k - 1) * d + 1 + draw.randint(3, 5) for k, d in zip(kernel, dilation, strict=True))
    same = draw.random() < 0.15
    conv = CONV[dims](
        groups * draw.randint(1, 6),
        groups * draw.randint(1, 8),
        kernel,
        1 if same else tuple(draw.randint(1, 3) for _ in range(dims)),
        "same" if same else tuple(draw.randint(0, 2) for _ in range(dims)),
        dilation,
        groups,
        bias=draw.random() < 0.7,
        padding_mode=draw.choice(MODES),
        dtype=torch.float64,
    )
    return conv, size


def _kernel(kind: str, like: Tensor, dtype: torch.dtype) -> Tensor:
    weight = torch.randn_like(like)
    flat = weight.flatten(1)
    if kind == "decaying":
        left, values, right = torch.linalg.svd(flat, full_matrices=False)
        flat = (left * values * 3.0 ** -torch.arange(len(values), dtype=torch.float64)) @ right
    elif kind == "low rank":
        flat = torch.randn(len(flat), 1, dtype=torch.float64) @ flat[:1]
    elif kind == "zero channels":
        weight[:, 0] = 0
        flat = weight.flatten(1)
    elif kind in ("tiny", "huge"):
        narrow = dtype == torch.float16
        flat = flat * ((1e-4 if narrow else 1e-18) if kind == "tiny" else (1e2 if narrow else 1e15))
    return flat.reshape(like.shape)


@dataclass(frozen=True)
class Checked:
    """What one case gave: its row, and the largest difference of outputs over the largest output, in float64."""

    row: Row
    output_error: float


def check(case: Case) -> Checked:
    """The row of a case; raises AssertionError where the error passes the bound, or an exact one is not."""
    changed, report = decompose(case.conv, case.method, rank=case.rank, report=True)
    (row,) = report.rows
    assert isinstance(changed, nn.Sequential), row
    kernel = composed(changed, case.conv)
    truth = case.conv.weight.detach().double()
    size = torch.linalg.vector_norm(truth)
    # The error of a kernel read off by impulses, which shares no code with the decomposition.
    error = float(torch.linalg.vector_norm(kernel - truth) / size) if size else float(kernel.abs().max())
    assert error <= row.bound * (1 + 1e-9) + 1e-300, f"{case}: {error} above its bound {row.bound}"
    assert row.error <= row.bound, f"{case}: {row}"
    with torch.no_grad():
        y, wide = case.conv.double()(case.input), changed.double()(case.input)
    output = float((y - wide).abs().max() / y.abs().max()) if bool(y.any()) else float(wide.abs().max())
    if case.full and case.dtype is torch.float64 and case.method != "cp":
        assert row.error <= 1e-12, row
        assert output <= 1e-12, (case, output)
    return Checked(row, output)


def composed(row: nn.Sequential, conv: Any) -> Tensor:
    """The kernel that a row of convolutions has: its answer to an impulse at each input channel, without borders."""
    plain = []
    for part in row:
        inner = CONV[len(conv.kernel_size)](
            part.in_channels, part.out_channels, part.kernel_size, groups=part.groups, bias=False, dtype=torch.float64
        )
        inner.weight = nn.Parameter(part.weight.detach().double())
        plain.append(inner)
    size = tuple(2 * k - 1 for k in conv.kernel_size)
    middle = tuple(k - 1 for k in conv.kernel_size)
    impulses = torch.zeros(conv.in_channels, conv.in_channels, *size, dtype=torch.float64)
    for channel in range(conv.in_channels):
        impulses[(channel, channel, *middle)] = 1
    with torch.no_grad():
        answer = nn.Sequential(*plain)(impulses).flip(tuple(range(2, impulses.dim())))
    kernel = torch.zeros(conv.weight.shape, dtype=torch.float64)
    columns, rows = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for group in range(conv.groups):
        block = answer[group * columns : (group + 1) * columns, group * rows : (group + 1) * rows]
        kernel[group * rows : (group + 1) * rows] = block.transpose(0, 1)
    assert answer.numel() == conv.in_channels * conv.out_channels * prod(conv.kernel_size)
    return kernel
