"""ECB: 3x3, 1x1 then 3x3, and three 1x1 then an edge mask; every layer biased, borders with their own response."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from blocks.cases import Case, cases, normal
from blocks.contract import same_values
from blocks.plain import conv, fill, look_through, padded
from blocks.suite import BlockSuite
from convfold import blocks
from convfold.errors import InvalidArgument

MASKS = {
    "sobel_x": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "sobel_y": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, groups = case.arguments, case.arguments["groups"]

    def surrounded(z: Tensor, bias: Tensor | None) -> Tensor:
        if a["padding_mode"] != "zeros":
            return padded(z, a)
        return fill(z, a, z.new_zeros(z.shape[1]) if bias is None else bias)

    def windowed(z: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        return conv(z, weight, bias, a["stride"], a["dilation"], groups)

    y = windowed(padded(x, a), module.dense.weight, module.dense.bias, groups)
    z = conv(x, module.squeeze.weight, module.squeeze.bias, groups=groups)
    y = y + windowed(surrounded(z, module.squeeze.bias), module.expand.weight, module.expand.bias, groups)
    for name, mask in MASKS.items():
        point = module.points[name]
        z = surrounded(conv(x, point.weight, point.bias, groups=groups), point.bias)
        taps = module.scales[name].reshape(-1, 1, 1, 1) * torch.tensor(mask, dtype=x.dtype)
        y = y + windowed(z, taps, module.shifts[name] if a["bias"] else None, a["out_channels"])
    keeps = a["in_channels"] == a["out_channels"] and all(s == 1 for s in a["stride"])
    return y + look_through(padded(x, a), a) if keeps and case.options.get("identity") else y


class TestECB(BlockSuite):
    name = "ecb"
    legal = (2,)
    typical_options: ClassVar[dict[str, Any]] = {"identity": True}
    grid: ClassVar[dict[str, list[Any]]] = {
        "identity": [False, True],
        "expansion": [1, 3],
        "arguments": [{}, {"stride": (2, 2)}, {"groups": 2}, {"padding": (0, 2)}],
    }
    oracle = staticmethod(branches)

    @classmethod
    def strategy(cls, dims: int) -> st.SearchStrategy[Case]:
        return cases("ecb", dims, cls.options, st.just((3, 3)))

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"identity": draw(st.booleans()), "expansion": draw(st.integers(1, 3))}

    def test_masks_are_no_weights_and_their_factors_start_small(self) -> None:
        torch.manual_seed(0)
        module = blocks.ECBConv2d(32, 32, 3)
        for name, mask in MASKS.items():
            assert getattr(module, name).tolist() == mask
            for drawn in (module.scales[name], module.shifts[name]):
                assert drawn.std().item() == pytest.approx(1e-3, rel=0.5)
        assert not [key for key in module.state_dict() if key in MASKS]
        assert module.squeeze.out_channels == 64

    def test_pitfall_36_a_deep_stack_stays_bounded_at_the_start(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(4, 8, 16, 16)
        for identity in (False, True):
            stack = nn.Sequential(*[blocks.ECBConv2d(8, 8, 3, padding=1, identity=identity) for _ in range(16)])
            plain = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(16)])
            gain = (stack(x).std() / x.std()).item()
            assert gain < 32, f"sixteen blocks multiply the spread by {gain:.1f}"
            assert gain > (plain(x).std() / x.std()).item() / 100
            stack(x).square().mean().backward()
            assert all(torch.isfinite(p.grad).all() for p in stack.parameters())

    def test_the_start_compensates_for_every_other_branch_in_training_too(self) -> None:
        for arguments in ({"padding": 1}, {"padding": 1, "groups": 2}, {"stride": 2}, {"dilation": 2, "padding": 2}):
            module = blocks.ECBConv2d(4, 4, 3, **arguments, identity=True, dtype=torch.float64).train()
            plain = nn.Conv2d(4, 4, 3, **arguments, dtype=torch.float64)
            module.start(plain.weight, plain.bias)
            assert module.expand.weight.abs().max() > 0
            x = normal(2, 4, 7, 8)
            for mode in ("feature", "kernel"):
                module.mode = mode
                same_values(module(x), plain(x))

    def test_its_errors(self) -> None:
        for kernel in (1, 5, (3, 1)):
            with pytest.raises(
                InvalidArgument, match=r"ECBConv2d: ecb has 3x3 masks: got kernel_size .*expected \(3, 3\)"
            ):
                blocks.ECBConv2d(4, 4, kernel)
        for expansion in (0, 1.5):
            with pytest.raises(
                InvalidArgument, match=f"expansion is no whole factor: got {expansion}, expected at least 1"
            ):
                blocks.ECBConv2d(4, 4, 3, expansion=expansion)
        with pytest.raises(InvalidArgument, match="ecb has no normalisation of its own"):
            blocks.ECBConv2d(4, 4, 3).start(normal(4, 4, 3, 3), None, nn.BatchNorm2d(4))
