"""UniRepLKNet's and RepLKNet's large kernels: y = BN(W_K * x) + sum_j BN_j(W_j * x), W_j small and dilated."""

import resource
from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.contract import same_values
from blocks.plain import centred, conv, norm, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument

# From the paper's Table: the large kernel, then sizes and rates of the small ones.
PAPER = {
    17: ((5, 9, 3, 3, 3), (1, 2, 4, 5, 7)),
    15: ((5, 7, 3, 3, 3), (1, 2, 3, 5, 7)),
    13: ((5, 7, 3, 3, 3), (1, 2, 3, 4, 5)),
    11: ((5, 5, 3, 3, 3), (1, 2, 3, 4, 5)),
    9: ((5, 5, 3, 3), (1, 2, 3, 4)),
    7: ((5, 3, 3), (1, 2, 3)),
    5: ((3, 3), (1, 2)),
}


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, wide = case.arguments, padded(x, case.arguments)
    y = norm(conv(wide, module.dense.weight, None, a["stride"], a["dilation"], a["groups"]), module.dense_norm)
    for (size, rate), small, its_norm in zip(module.small, module.dilated, module.dilated_norms, strict=True):
        seen = centred(wide, a, (rate * (size - 1) + 1,) * case.dims)
        dilation = tuple(rate * d for d in a["dilation"])
        y = y + norm(conv(seen, small.weight, None, a["stride"], dilation, a["groups"]), its_norm)
    return y if module.bias is None else y + module.bias.reshape(-1, *[1] * case.dims)


class TestDilated(BlockSuite):
    name = "dilated"
    typical: ClassVar[dict[str, Any]] = {**BlockSuite.typical, "groups": 4}
    typical_options: ClassVar[dict[str, Any]] = {"branches": ((2, 1), (2, 2), (1, 1))}
    grid: ClassVar[dict[str, list[Any]]] = {
        "norm": ["bn", "scale"],
        "branches": [((2, 2), (3, 1)), ()],
        "arguments": [{}, {"stride": (2, 2)}, {"groups": 1}, {"kernel_size": (5, 4), "padding": (2, 1)}],
    }
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        fitting = [(k, r) for k, r in product(range(1, 6), range(1, 4)) if r * (k - 1) + 1 <= min(kernel)]
        chosen = draw(st.lists(st.sampled_from(fitting), max_size=3))
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"])), "branches": tuple(chosen)}

    @pytest.mark.parametrize("large", PAPER)
    def test_published_branches(self, large: int) -> None:
        sizes, rates = PAPER[large]
        for kernel in (large, (large, large + 1)):
            module = blocks.DilatedConv2d(2, 2, kernel, groups=2)
            assert list(module.small) == list(zip(sizes, rates, strict=True))
            assert [tuple(c.kernel_size) for c in module.dilated] == [(k, k) for k in sizes]
            assert [tuple(c.dilation) for c in module.dilated] == [(r, r) for r in rates]

    def test_published_branches_fold(self) -> None:
        arguments = {**self.typical, "kernel_size": (13, 17), "padding": (6, 8)}
        case = Case("dilated", 2, arguments, {}, (9, 10), 3)
        module, x = case.build(), case.input()
        truth = branches(module, case, x)
        same_values(module(x), truth)
        same_values(module.fold()(x), truth)

    def test_replknet_on_its_widest_layer_stays_depthwise_and_small(self) -> None:
        """31x31 and 5x5 on 1,536 channels: made dense, the kernel would take 9 GB."""
        torch.manual_seed(0)
        module = blocks.DilatedConv2d(1536, 1536, 31, padding=15, groups=1536, branches=((5, 1),), bias=False).eval()
        for its_norm in (module.dense_norm, *module.dilated_norms):
            torch.nn.init.normal_(its_norm.weight)
            torch.nn.init.normal_(its_norm.running_mean)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        folded = module.fold()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert folded.weight.shape == (1536, 1, 31, 31)
        assert grown < 400 * 1024, f"the fold took {grown // 1024} MiB for a kernel of 6 MiB"
        large, small = module.dense.weight.detach().double(), module.dilated[0].weight.detach().double()

        def scale(its_norm: Any) -> Tensor:
            return (
                (its_norm.weight / (its_norm.running_var.double() + its_norm.eps).sqrt()).detach().reshape(-1, 1, 1, 1)
            )

        expected = large * scale(module.dense_norm)
        expected[:, :, 13:18, 13:18] += small * scale(module.dilated_norms[0])
        # Cast once to float32: half a unit in the last place.
        assert ((folded.weight.double() - expected).abs() <= 2**-24 * expected.abs() * 1.01).all()

    def test_kernels_start_normal_and_truncated(self) -> None:
        torch.manual_seed(0)
        module = blocks.DilatedConv2d(64, 64, 7, groups=64)
        for kernel in (module.dense.weight, *(c.weight for c in module.dilated)):
            assert kernel.abs().max() <= 0.04
            assert kernel.std().item() == pytest.approx(0.02 * 0.88, rel=0.1)

    def test_its_errors(self) -> None:
        with pytest.raises(
            InvalidArgument, match=r"no published branch fits: got kernel_size \(3, 3\), expected at least 5"
        ):
            blocks.DilatedConv2d(4, 4, 3)
        sentence = r"DilatedConv2d: a dilated branch exceeds the large kernel: got 3 taps at dilation 3, 7 positions, "
        with pytest.raises(
            InvalidArgument, match=sentence + "expected at most 5.*Make the kernel larger, or the branch"
        ):
            blocks.DilatedConv2d(4, 4, (7, 5), branches=((3, 3),))
        for pair in ((0, 1), (3, 0)):
            with pytest.raises(InvalidArgument, match="a dilated branch exceeds the large kernel"):
                blocks.DilatedConv2d(4, 4, 7, branches=(pair,))
