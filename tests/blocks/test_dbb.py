"""DBB: k x k, 1x1, 1x1 then k x k, 1x1 then average pooling."""

from typing import Any, ClassVar

import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.plain import conv, fill, look_through, mean_of_taps, norm, padded
from blocks.suite import BlockSuite
from convfold import blocks


def surrounded(z: Tensor, module: Any, arguments: dict[str, Any]) -> Tensor:
    """The intermediate map in its padding: its own response to zero, or what another padding mode gives."""
    if arguments["padding_mode"] != "zeros":
        return padded(z, arguments)
    silent = norm(z.new_zeros(1, z.shape[1], *[1] * (z.dim() - 2)), module).reshape(-1)
    return fill(z, arguments, silent)


def squeeze(module: Any, groups: int) -> Tensor:
    """The first 1x1: its weight, with the identity added where it is based on one."""
    weight = module.squeeze.weight
    if weight.dim() > 2:
        return weight
    width = weight.shape[1]
    return torch.stack([row + torch.eye(width, dtype=row.dtype)[i % width] for i, row in enumerate(weight)])


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a = case.arguments
    groups, wide = a["groups"], padded(x, a)
    ones = [1] * case.dims
    y = norm(conv(wide, module.dense.weight, None, a["stride"], a["dilation"], groups), module.dense_norm)
    if groups < a["out_channels"]:
        y = y + norm(conv(look_through(wide, a), module.point.weight, None, groups=groups), module.point_norm)
    weight = squeeze(module, groups)
    z = norm(conv(x, weight.reshape(*weight.shape[:2], *ones), None, groups=groups), module.squeeze_norm)
    z = surrounded(z, module.squeeze_norm, a)
    y = y + norm(conv(z, module.expand.weight, None, a["stride"], a["dilation"], groups), module.expand_norm)
    if groups == a["in_channels"] == a["out_channels"]:
        y = y + norm(mean_of_taps(wide, a), module.pool_norm)
    else:
        z = norm(conv(x, module.pool_point.weight, None, groups=groups), module.pool_point_norm)
        y = y + norm(mean_of_taps(surrounded(z, module.pool_point_norm, a), a), module.pool_norm)
    return y if module.bias is None else y + module.bias.reshape(-1, *ones)


class TestDBB(BlockSuite):
    name = "dbb"
    grid: ClassVar[dict[str, Any]] = {
        "norm": ["bn", "scale"],
        "arguments": [{}, {"stride": (2, 2)}, {"groups": 4}, {"groups": 2}, {"padding": (0, 0)}],
    }
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"]))}

    def test_branches_are_there_when_they_add_something(self) -> None:
        def parts(inputs: int, outputs: int, groups: int) -> tuple[bool, int, bool]:
            module = blocks.DBBConv2d(inputs, outputs, 3, groups=groups)
            return module.point is not None, module.expand.in_channels, module.pool_point is not None

        assert parts(4, 6, 1) == (True, 4, True)
        assert parts(4, 8, 4) == (True, 4, True)
        assert parts(4, 4, 4) == (False, 8, False)
        # The published condition leaves the 1x1 out here too, where the channels do not even agree.
        assert parts(8, 4, 4) == (False, 16, True)

    def test_the_first_1x1_starts_as_the_identity(self) -> None:
        module = blocks.DBBConv2d(6, 4, 3, groups=2, dtype=torch.float64)
        x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
        assert torch.equal(conv(x, module.squeeze.op().weight, None, groups=2), x)
        assert "squeeze.identity" not in module.state_dict()
