"""MobileOne: RepVGG with several dense branches."""

from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.plain import conv, norm, padded
from blocks.suite import BlockSuite
from blocks.test_repvgg import branches
from convfold import blocks
from convfold.errors import InvalidArgument


def more_branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, y = case.arguments, branches(module, case, x)
    for copy, its_norm in zip(module.copies, module.copy_norms, strict=True):
        y = y + norm(conv(padded(x, a), copy.weight, None, a["stride"], a["dilation"], a["groups"]), its_norm)
    return y


class TestMobileOne(BlockSuite):
    name = "mobileone"
    typical_options: ClassVar[dict[str, Any]] = {"branches": 2}
    grid: ClassVar[dict[str, Any]] = {
        "norm": ["bn", "scale"],
        "branches": [1, 4],
        "arguments": [{}, {"stride": (2, 2)}],
    }
    oracle = staticmethod(more_branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"])), "branches": draw(st.integers(1, 4))}

    def test_branches_counts_the_dense_ones(self) -> None:
        assert len(blocks.MobileOneConv2d(3, 4, 3).copies) == 3
        assert len(blocks.MobileOneConv2d(3, 4, 3, branches=1).copies) == 0

    @pytest.mark.parametrize("branches", [0, -1, 1.5, "4"])
    def test_refuses_a_number_that_is_none(self, branches: Any) -> None:
        with pytest.raises(InvalidArgument, match=r"MobileOneConv2d: branches is too small: got .*expected at least 1"):
            blocks.MobileOneConv2d(3, 4, 3, branches=branches)
