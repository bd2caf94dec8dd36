"""PSConv against its published form: three convolutions, the middle one dense under a mask."""

from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

import convfold
from blocks.cases import Case, normal
from blocks.plain import conv, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument

D = 2


def published(offset: int, parts: int, rate: int) -> int:
    """The dilation between blocks that lie `offset` apart: for four parts and D = 2 the row 2, 1, 4, 1."""
    return rate if offset == 0 else 2 * rate if offset == parts // 2 else 1


def dense_of(module: Any, part: int) -> Tensor:
    """The kernel of one part, (C_out, C_in/groups, *kernel), zero where another part serves the pair of blocks."""
    parts, groups = module.num_parts, module.groups
    weight = module.parts[part].weight
    offsets = module._layout()[part].offsets
    inside, outside = module.in_channels // groups // parts, module.out_channels // groups // parts
    whole = weight.new_zeros(module.out_channels, inside * parts, *weight.shape[2:])
    for g, q, (column, offset) in product(range(groups), range(parts), enumerate(offsets)):
        rows = slice((g * parts + q) * outside, (g * parts + q + 1) * outside)
        source = (q + offset) % parts
        block = weight[rows, column * inside : (column + 1) * inside]
        whole[rows, source * inside : (source + 1) * inside] = block
    return whole


def mask_of(module: Any) -> Tensor:
    """1 where the undilated convolution of the published form has weights: (C_out, C_in/groups)."""
    parts, groups = module.num_parts, module.groups
    inside, outside = module.in_channels // groups // parts, module.out_channels // groups // parts
    mask = torch.ones(module.out_channels, inside * parts, dtype=torch.float64)
    for o, i in product(range(module.out_channels), range(inside * parts)):
        apart = (i // inside - (o // outside) % parts) % parts
        if apart in (0, parts // 2):
            mask[o, i] = 0
    return mask


def swapped(x: Tensor, groups: int) -> Tensor:
    """The halves of each group's channels, exchanged: block q then reads block q + P/2."""
    n, c, *size = x.shape
    halves = x.reshape(n, groups, 2, c // groups // 2, *size)
    return halves.flip(2).reshape(n, c, *size)


def three(module: Any, case: Case, x: Tensor) -> Tensor:
    a, parts, groups = case.arguments, module.num_parts, module.groups
    rate, stride = a["dilation"], a["stride"]

    def wide(x: Tensor, dilation: tuple[int, ...]) -> Tensor:
        more = [(d - 1) * (k // 2) for d, k in zip(dilation, a["kernel_size"], strict=True)]
        around = {"same": [k // 2 for k in a["kernel_size"]], "valid": [0] * case.dims}.get(str(a["padding"]))
        around = a["padding"] if around is None else around
        grown = tuple(p + m for p, m in zip(around, more, strict=True))
        return padded(x, {**a, "padding": grown})

    one, twice = (1,) * case.dims, tuple(2 * r for r in rate)
    diagonal, shifted = module.parts[0], module.parts[-1]
    y = conv(wide(x, rate), diagonal.weight, diagonal.bias, stride, rate, groups * parts)
    y = y + conv(wide(swapped(x, groups), twice), shifted.weight, None, stride, twice, groups * parts)
    if parts > 2:
        masked = dense_of(module, 1) * mask_of(module).reshape(*mask_of(module).shape, *one)
        y = y + conv(wide(x, one), masked, None, stride, one, groups)
    return y


def whole_of(arguments: dict[str, Any], parts: int) -> dict[str, Any]:
    """The arguments of the one large convolution."""
    kernel, rate, padding = arguments["kernel_size"], arguments["dilation"], arguments["padding"]
    step = [r if parts == 2 or k == 1 else 1 for k, r in zip(kernel, rate, strict=True)]
    taps = tuple(2 * r * (k - 1) // s + 1 for k, r, s in zip(kernel, rate, step, strict=True))
    own = {"same": tuple(k // 2 for k in kernel), "valid": (0,) * len(kernel)}.get(str(padding), padding)
    grown = tuple(p + (2 * r - 1) * (k // 2) for p, k, r in zip(own, kernel, rate, strict=True))
    named = padding if padding == "same" or (padding == "valid" and not any(grown)) else grown
    return {"kernel_size": taps, "dilation": tuple(step), "padding": named}


@st.composite
def configurations(draw: DrawFn, dims: int) -> Case:
    parts = draw(st.sampled_from([2, 4, 4, 6] if dims < 3 else [2, 4]))
    groups = draw(st.sampled_from([1, 1, 2, 4] if dims < 3 else [1, 2]))
    width = st.integers(1, 2 if dims < 3 else 1)
    kernel = draw(st.tuples(*[st.sampled_from([1, 3, 3, 5] if dims == 1 else [1, 3, 3])] * dims))
    rate = draw(st.tuples(*[st.integers(1, 3 if dims == 1 else 2)] * dims))
    stride = draw(st.tuples(*[st.sampled_from([1, 1, 2, 3])] * dims))
    names = ["numbers", "valid"] + ["same"] * all(s == 1 for s in stride)
    padding = draw(st.sampled_from(names))
    if padding == "numbers":
        padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    arguments = {
        "in_channels": groups * parts * draw(width),
        "out_channels": groups * parts * draw(width),
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": rate,
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"])),
    }
    whole = {**arguments, **whole_of(arguments, parts)}
    # "same" adds an even number here, because the kernels are odd.
    pads = [(k - 1) * d // 2 for k, d in zip(whole["kernel_size"], whole["dilation"], strict=True)]
    pads = pads if padding in ("same", "valid") else list(whole["padding"])
    size = tuple(max(p + 1, k) + draw(st.integers(0, 3)) for p, k in zip(pads, kernel, strict=True))
    return Case("psconv", dims, arguments, {"parts": parts}, size, draw(st.integers(0, 2**16)), folded=whole)


def support(weight: Tensor, parts: int, groups: int) -> dict[tuple[int, int, int], set[tuple[int, ...]]]:
    """Per (group, output block, input block) which taps of the folded kernel carry a weight."""
    rows, columns = weight.shape[0] // groups // parts, weight.shape[1] // parts
    found = {}
    for g, q, p in product(range(groups), range(parts), range(parts)):
        start = (g * parts + q) * rows
        block = weight[start : start + rows, p * columns : (p + 1) * columns]
        used = block.abs().amax((0, 1)) > 0
        assert bool((block[..., used] != 0).all()), "a pair of channels of the block has fewer taps than another"
        found[g, q, p] = {tuple(t) for t in used.nonzero().tolist()}
    return found


class TestPSConv(BlockSuite):
    name = "psconv"
    pays = False
    typical: ClassVar[dict[str, Any]] = {**BlockSuite.typical, "dilation": (D, D)}
    typical_folded: ClassVar[dict[str, Any]] = {"kernel_size": (9, 9), "padding": (4, 4), "dilation": (1, 1)}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"stride": (2, 2)}, {"out_channels": 8}, {"kernel_size": (3, 1), "padding": (1, 0)}],
        "parts": [2, 4],
    }
    oracle = staticmethod(three)

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        return configurations(dims)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_pitfall_21_every_pair_of_blocks_has_the_published_taps(self, groups: int) -> None:
        module = Case("psconv", 2, {**self.typical, "in_channels": 16, "out_channels": 32, "groups": groups}).build()
        folded = module.fold()
        assert folded.groups == groups
        assert folded.kernel_size == (4 * D + 1, 4 * D + 1)
        for (_, q, p), taps in support(folded.weight, 4, groups).items():
            rate = published((p - q) % 4, 4, D)
            centre = 2 * D
            expected = {(centre + rate * i, centre + rate * j) for i, j in product((-1, 0, 1), repeat=2)}
            assert taps == expected, f"blocks {q} <- {p}"

    @pytest.mark.parametrize("groups", [1, 2, 4, 32])
    def test_pitfall_21_half_of_the_undilated_kernel_is_masked(self, groups: int) -> None:
        channels = 4 * groups
        module = blocks.PSConv2d(channels, channels, 3, groups=groups, bias=False, dtype=torch.float64)
        undilated = dense_of(module, 1)
        assert (undilated == 0).all((2, 3)).double().mean() == 2 / 4
        assert torch.equal((undilated != 0).all(3).all(2).double(), mask_of(module))
        # One weight per pair of channels and tap, no more: what the plain convolution has.
        assert sum(p.numel() for p in module.parameters()) == channels * 4 * 9

    def test_the_row_of_the_paper(self) -> None:
        assert [published(offset, 4, 2) for offset in range(4)] == [2, 1, 4, 1]
        rows = [[published((p - q) % 4, 4, 2) for p in range(4)] for q in range(4)]
        assert all(rows[q][p] == rows[0][(p - q) % 4] for q, p in product(range(4), repeat=2))
        # A cyclic shift of the row that the paper draws.
        assert rows[0] in [[1, 2, 1, 4][s:] + [1, 2, 1, 4][:s] for s in range(4)]

    def test_it_costs_what_the_plain_convolution_costs(self) -> None:
        x = normal(1, 16, 9, 9)
        module, plain = blocks.PSConv2d(16, 16, 3, padding=1).double(), nn.Conv2d(16, 16, 3, padding=1).double()
        assert convfold.cost(module, x).macs == convfold.cost(plain, x).macs
        assert convfold.cost(module.fold(), x).macs == 9 * convfold.cost(plain, x).macs

    def test_each_part_starts_with_the_spread_of_the_published_one(self) -> None:
        torch.manual_seed(0)
        module = blocks.PSConv2d(64, 256, 3)
        fans = [16 * 9, 64 * 9, 16 * 9]
        for part, fan in zip(module.parts, fans, strict=True):
            assert part.weight.abs().max().item() == pytest.approx(fan**-0.5, rel=0.01)
            assert part.weight.std().item() == pytest.approx((3 * fan) ** -0.5, rel=0.02)

    def test_its_errors(self) -> None:
        for kernel in (2, (3, 4)):
            with pytest.raises(InvalidArgument, match=r"PSConv2d: psconv needs odd kernels: got \("):
                blocks.PSConv2d(4, 4, kernel)
        sentence = (
            r"PSConv2d: parts must be even and divide the channels of each group: got parts=.* for 8 -> 8 .* in 1"
        )
        for parts in (3, 1, 16, "4"):
            with pytest.raises(InvalidArgument, match=sentence):
                blocks.PSConv2d(8, 8, 3, parts=parts)
        with pytest.raises(InvalidArgument, match="got parts=4 for 8 -> 8 channels in 4 groups"):
            blocks.PSConv2d(8, 8, 3, groups=4)
        with pytest.raises(InvalidArgument, match="variant is unknown: got 'mask', expected 'dilation' or 'shape'"):
            blocks.PSConv2d(8, 8, 3, variant="mask")
        with pytest.raises(InvalidArgument, match=r'variant="shape" has no dilation.*got \(3, 3\), expected 1'):
            blocks.PSConv2d(8, 8, 3, variant="shape", dilation=3)


def regions(module: Any, case: Case, x: Tensor) -> Tensor:
    """Per pair of blocks one plain convolution on the part of the map that its shape reads."""
    a, parts, groups = case.arguments, module.num_parts, module.groups
    kernel, stride = a["kernel_size"], a["stride"]
    wide = padded(x, {**a, "dilation": (1,) * case.dims})
    inside, outside = x.shape[1] // groups // parts, module.out_channels // groups // parts
    rows = []
    for g, q in product(range(groups), range(parts)):
        y: Any = 0
        for p in range(parts):
            part, column = where_of(module, (p - q) % parts)
            weight = module.parts[part].weight
            block = weight[(g * parts + q) * outside :][:outside, column * inside : (column + 1) * inside]
            assert block.shape[2:] == shape_of((p - q) % parts, parts, kernel)
            seen = wide.narrow(1, (g * parts + p) * inside, inside)
            for axis, (k, own) in enumerate(zip(kernel, block.shape[2:], strict=True)):
                if own < k:
                    seen = seen.narrow(2 + axis, (k - 1) // 2, seen.shape[2 + axis] - (k - 1))
            y = y + conv(seen, block, None, stride)
        rows.append(y)
    y = torch.cat(rows, 1)
    bias = module.parts[0].bias
    return y if bias is None else y + bias.reshape(-1, *[1] * case.dims)


def shape_of(offset: int, parts: int, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """k x k on the diagonal, k x 1 next to it, 1 x 1 half the way round, 1 x k everywhere else."""
    if offset == 0:
        return kernel
    if offset == 1:
        return (kernel[0], *(1 for _ in kernel[1:]))
    return tuple(1 if axis == 0 or offset == parts // 2 else k for axis, k in enumerate(kernel))


def where_of(module: Any, offset: int) -> tuple[int, int]:
    for index, part in enumerate(module._layout()):
        if offset in part.offsets:
            return index, part.offsets.index(offset)
    raise AssertionError(f"no part serves offset {offset}")


@st.composite
def shaped(draw: DrawFn, dims: int) -> Case:
    case = draw(configurations(dims))
    arguments = {**case.arguments, "dilation": (1,) * dims}
    pads = {"same": tuple(k // 2 for k in arguments["kernel_size"]), "valid": (0,) * dims}
    own = pads.get(str(arguments["padding"]), arguments["padding"])
    # A variant without its largest shape anywhere but on the diagonal still has the whole window there.
    size = tuple(max(p + 1, k) + draw(st.integers(0, 3)) for p, k in zip(own, arguments["kernel_size"], strict=True))
    return Case("psconv", dims, arguments, {**case.options, "variant": "shape"}, size, case.seed)


class TestShape(BlockSuite):
    name = "psconv"
    pays = False
    typical_options: ClassVar[dict[str, Any]] = {"variant": "shape"}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"stride": (2, 2)}, {"out_channels": 8}, {"kernel_size": (5, 3), "padding": (2, 0)}],
        "parts": [2, 4],
        "variant": ["shape"],
    }
    oracle = staticmethod(regions)
    # The same operators as above, compiled there.
    test_compiles_as_one_graph_forward_and_backward = None

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        return shaped(dims)

    @pytest.mark.parametrize("groups", [1, 2, 4])
    def test_every_pair_of_blocks_has_its_shape(self, groups: int) -> None:
        arguments = {**self.typical, "in_channels": 16, "out_channels": 16, "groups": groups}
        folded = Case("psconv", 2, arguments, self.typical_options).build().fold()
        assert (folded.kernel_size, folded.groups) == ((3, 3), groups)
        shapes = {0: ((0, 1, 2), (0, 1, 2)), 1: ((0, 1, 2), (1,)), 2: ((1,), (1,)), 3: ((1,), (0, 1, 2))}
        for (_, q, p), taps in support(folded.weight, 4, groups).items():
            assert taps == set(product(*shapes[(p - q) % 4])), f"blocks {q} <- {p}"
