"""DO-Conv: K[o, i, m] = sum_s (D + E)[c(o, i), m, s] * W[o, i, s]."""

from math import prod
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case, normal
from blocks.plain import conv, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument


def one_kernel(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    inputs, outputs, groups = a["in_channels"], a["out_channels"], a["groups"]
    taps, width = prod(a["kernel_size"]), inputs // groups
    if taps == 1:
        kernel = module.conv.weight
    else:
        mult = module.D_mul
        held = module.conv.weight.reshape(outputs, width, mult)
        fixed = torch.zeros(taps, mult, dtype=x.dtype)
        for s in range(mult // taps * taps):
            fixed[s % taps, s] = 1
        rows = []
        for o in range(outputs):
            first = o // (outputs // groups) * width
            rows.append([(module.depth[first + i] + fixed) @ held[o, i] for i in range(width)])
        kernel = torch.stack([torch.stack(row) for row in rows]).reshape(outputs, width, *a["kernel_size"])
    return conv(padded(x, a), kernel, module.conv.bias, a["stride"], a["dilation"], groups)


class TestDOConv(BlockSuite):
    name = "doconv"
    grid: ClassVar[dict[str, Any]] = {
        "D_mul": [None, 9, 20],
        "arguments": [{}, {"groups": 4}, {"kernel_size": (1, 1), "padding": (0, 0)}],
    }
    oracle = staticmethod(one_kernel)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        taps = prod(kernel)
        kind = draw(st.sampled_from(["default", "default", "more", "copies", "less"]))
        if kind == "less" and taps > 1:
            return {"D_mul": draw(st.integers(1, taps - 1)), "allow_rank_deficient": True}
        return {"more": {"D_mul": taps + 1}, "copies": {"D_mul": 2 * taps + 1}}.get(kind, {})

    @pytest.mark.parametrize("D_mul", [8, 0, -1, 2.5])
    def test_a_small_multiplier_is_refused(self, D_mul: Any) -> None:
        match = "DOConv2d: D_mul is smaller than the kernel: got .* for a kernel of 9 taps, expected at least 9.*allow"
        with pytest.raises(InvalidArgument, match=match):
            blocks.DOConv2d(2, 3, 3, D_mul=D_mul)

    def test_a_rank_deficient_block_starts_alive(self) -> None:
        module = blocks.DOConv2d(4, 6, 3, D_mul=3, allow_rank_deficient=True)
        assert module.fold().weight.abs().amax() > 0.05
        with pytest.raises(InvalidArgument, match="rank-deficient block cannot start from a given kernel: got D_mul=3"):
            module.start(torch.zeros(6, 4, 3, 3))

    def test_a_fresh_block_computes_its_pointwise_weights(self) -> None:
        # D starts at zero over the identity, so the kernel is W itself: the plain convolution's own start.
        module = blocks.DOConv2d(4, 6, 3, groups=2)
        assert torch.equal(module.fold().weight, module.conv.weight.reshape(6, 2, 3, 3))

    def test_a_kernel_of_one_tap_has_nothing_over_it(self) -> None:
        module = blocks.DOConv2d(2, 3, 1, D_mul=9)
        assert (module.D_mul, module.depth) == (1, None)
        assert [name for name, _ in module.named_parameters()] == ["conv.weight", "conv.bias"]

    def test_it_takes_in_no_norm(self) -> None:
        with pytest.raises(InvalidArgument, match="doconv has no normalisation of its own"):
            blocks.DOConv2d(4, 6, 3).start(normal(6, 4, 3, 3), None, torch.nn.BatchNorm2d(6))
