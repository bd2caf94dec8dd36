"""RepVGG: y = BN3(W_k * x) + BN1(W_1 * x) + BN0(x)."""

from typing import Any, ClassVar

from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.plain import conv, look_through, norm, padded
from blocks.suite import BlockSuite


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    wide = padded(x, a)
    centre = look_through(wide, a)
    y = norm(conv(wide, module.dense.weight, None, a["stride"], a["dilation"], a["groups"]), module.dense_norm)
    if any(k > 1 for k in a["kernel_size"]):
        y = y + norm(conv(centre, module.point.weight, None, groups=a["groups"]), module.point_norm)
    if a["in_channels"] == a["out_channels"] and all(s == 1 for s in a["stride"]):
        y = y + norm(centre, module.identity_norm)
    return y if module.bias is None else y + module.bias.reshape(-1, *[1] * case.dims)


class TestRepVGG(BlockSuite):
    name = "repvgg"
    grid: ClassVar[dict[str, Any]] = {
        "norm": ["bn", "scale"],
        "arguments": [{}, {"stride": (2, 2)}, {"kernel_size": (1, 1), "padding": (0, 0)}],
    }
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"]))}

    def test_branches_are_there_when_they_can_be(self) -> None:
        def parts(**arguments: Any) -> tuple[bool, bool]:
            module = Case("repvgg", 2, {**self.typical, **arguments}).fresh()
            return module.point is not None, module.identity_norm is not None

        assert parts() == (True, True)
        assert parts(stride=(2, 2)) == (True, False)
        assert parts(out_channels=8) == (True, False)
        assert parts(kernel_size=(1, 1), padding=(0, 0)) == (False, True)
