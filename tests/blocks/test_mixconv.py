"""MixConv: split the channels, convolve each share under its own kernel, concatenate."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor

from blocks.cases import Case, cases, normal
from blocks.plain import centred, conv, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument


def shares(channels: int, parts: int) -> list[int]:
    """Equal shares; the first takes what is left over."""
    rest = [channels // parts] * (parts - 1)
    return [channels - sum(rest), *rest]


def split(module: Any, case: Case, x: Tensor) -> Tensor:
    a, sizes = case.arguments, module.kernel_sizes
    pieces = padded(x, a).split(shares(a["in_channels"], len(sizes)), 1)
    done = []
    for piece, size, part in zip(pieces, sizes, module.parts, strict=True):
        groups = piece.shape[1] if a["groups"] > 1 else 1
        seen = centred(piece, a, (size,) * case.dims)
        done.append(conv(seen, part.weight, part.bias, a["stride"], a["dilation"], groups))
    return torch.cat(done, 1)


@st.composite
def configurations(draw: DrawFn, dims: int) -> Case:
    largest = draw(st.integers(1, {1: 7, 2: 5, 3: 3}[dims]))
    case = draw(cases("mixconv", dims, lambda draw, kernel: {}, st.just((largest,) * dims)))
    parts = draw(st.integers(1, 3))
    sizes = [largest, *(draw(st.integers(1, largest)) for _ in range(parts - 1))]
    sizes = draw(st.permutations(sizes))
    depthwise = draw(st.booleans())
    inside = draw(st.integers(max(2, parts), 6))
    outside = inside * draw(st.integers(1, 2)) if depthwise else draw(st.integers(parts, 6))
    arguments = {**case.arguments, "in_channels": inside, "out_channels": outside, "groups": inside if depthwise else 1}
    equal = parts if inside % parts == outside % parts == 0 else 1
    folded = {"groups": inside if depthwise else equal}
    return Case("mixconv", dims, arguments, {"kernel_sizes": tuple(sizes)}, case.size, case.seed, folded=folded)


class TestMixConv(BlockSuite):
    name = "mixconv"
    pays = False
    typical: ClassVar[dict[str, Any]] = {
        **BlockSuite.typical,
        "kernel_size": (3, 3),
        "groups": 4,
    }
    typical_options: ClassVar[dict[str, Any]] = {"kernel_sizes": (1, 3)}
    grid: ClassVar[dict[str, list[Any]]] = {
        "arguments": [{}, {"stride": (2, 2)}, {"groups": 1, "out_channels": 5}, {"out_channels": 8}],
        "kernel_sizes": [(3,), (1, 3), (3, 2, 3)],
    }
    oracle = staticmethod(split)

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        return configurations(dims)

    @pytest.mark.parametrize(
        ("channels", "parts", "expected"), [(10, 3, [4, 3, 3]), (8, 3, [4, 2, 2]), (9, 3, [3] * 3)]
    )
    def test_what_is_left_over_goes_to_the_first_part(self, channels: int, parts: int, expected: list[int]) -> None:
        sizes = (3, 5, 7)[:parts]
        module = blocks.MixConv2d(channels, 2 * channels, 7, kernel_sizes=sizes)
        assert module.inputs == expected
        assert [part.in_channels for part in module.parts] == expected
        assert [part.out_channels for part in module.parts] == shares(2 * channels, parts)

    def test_sizes_by_default(self) -> None:
        assert [blocks.MixConv2d(8, 8, k).kernel_sizes for k in (3, 5, 9)] == [(3,), (3, 5), (3, 5, 7, 9)]

    def test_equal_dense_parts_are_the_groups_of_the_fold_and_depthwise_stays(self) -> None:
        assert blocks.MixConv2d(6, 9, 5, kernel_sizes=(1, 3, 5)).fold().groups == 3
        assert blocks.MixConv2d(7, 9, 5, kernel_sizes=(1, 3, 5)).fold().groups == 1
        assert blocks.MixConv2d(7, 14, 5, groups=7).fold().weight.shape == (14, 1, 5, 5)

    def test_the_folded_kernel_holds_each_size_in_its_rows(self) -> None:
        folded = blocks.MixConv2d(6, 6, 5, kernel_sizes=(1, 3, 5), groups=6, dtype=torch.float64).fold()
        for row, size in enumerate((1, 1, 3, 3, 5, 5)):
            taps = (folded.weight[row, 0] != 0).nonzero()
            low, high = 2 - size // 2, 2 + size // 2
            assert taps.min() == low
            assert taps.max() == high
            assert len(taps) == size * size

    def test_its_errors(self) -> None:
        sentence = (
            r"MixConv2d: the largest of kernel_sizes is not kernel_size: got kernel_sizes=.*expected square kernels"
        )
        for kernel, sizes in ((5, (3,)), (3, (3, 5)), (3, (0, 3)), (3, ()), ((3, 5), None)):
            with pytest.raises(InvalidArgument, match=sentence):
                blocks.MixConv2d(4, 4, kernel, kernel_sizes=sizes)
        sentence = r"the parts of mixconv are dense or depthwise, and none is empty: got groups={}, {} parts for 4 -> 4"
        for groups, sizes in ((2, (3,)), (1, (3,) * 5)):
            with pytest.raises(InvalidArgument, match=sentence.format(groups, len(sizes))):
                blocks.MixConv2d(4, 4, 3, groups=groups, kernel_sizes=sizes)
        with pytest.raises(
            InvalidArgument, match=r"it cannot start from a given kernel: got a kernel outside its class"
        ):
            blocks.MixConv2d(4, 4, 3).start(normal(4, 4, 3, 3))
