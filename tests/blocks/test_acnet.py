"""ACNet: y = BN(W_{k x k} * x) + BN(W_{1 x k} * x) + BN(W_{k x 1} * x)."""

from typing import Any, ClassVar

from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.plain import conv, look_through, norm, padded
from blocks.suite import BlockSuite
from convfold import blocks


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, wide = case.arguments, padded(x, case.arguments)
    y = norm(conv(wide, module.dense.weight, None, a["stride"], a["dilation"], a["groups"]), module.dense_norm)
    long = [axis for axis, k in enumerate(a["kernel_size"]) if k > 1]
    assert len(long) == len(module.flat)
    for axis, flat, its_norm in zip(long, module.flat, module.flat_norms, strict=True):
        # On its flat axis the branch looks through the centre, strides included; the other axes are convolved.
        seen = look_through(wide, a, [axis])
        stride = tuple(1 if i == axis else s for i, s in enumerate(a["stride"]))
        y = y + norm(conv(seen, flat.weight, None, stride, a["dilation"], a["groups"]), its_norm)
    return y if module.bias is None else y + module.bias.reshape(-1, *[1] * case.dims)


class TestACNet(BlockSuite):
    name = "acnet"
    grid: ClassVar[dict[str, Any]] = {
        "norm": ["bn", "scale"],
        "arguments": [{}, {"stride": (2, 2)}, {"kernel_size": (5, 1), "padding": (0, 1)}],
    }
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"]))}

    def test_one_flat_branch_per_axis(self) -> None:
        sizes = [tuple(conv.kernel_size) for conv in blocks.ACNetConv3d(2, 2, (3, 5, 3)).flat]
        assert sizes == [(1, 5, 3), (3, 1, 3), (3, 5, 1)]
        assert [tuple(conv.kernel_size) for conv in blocks.ACNetConv1d(2, 2, 3).flat] == [(1,)]
