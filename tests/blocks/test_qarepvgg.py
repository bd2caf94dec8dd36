"""QARepVGG: y = BN( BN3(W_k * x) + alpha*(W_1 * x) + x [+ avg(x)] )."""

from typing import Any, ClassVar

import torch
from hypothesis import strategies as st
from torch import Tensor

from blocks.cases import Case
from blocks.contract import same_values
from blocks.plain import conv, look_through, mean_of_taps, norm, padded
from blocks.suite import BlockSuite
from convfold import blocks


def branches(module: Any, case: Case, x: Tensor) -> Tensor:
    a, wide = case.arguments, padded(x, case.arguments)
    centre = look_through(wide, a)
    y = norm(conv(wide, module.dense.weight, None, a["stride"], a["dilation"], a["groups"]), module.dense_norm)
    y = y + module.alpha * conv(centre, module.point.weight, None, groups=a["groups"])
    if a["in_channels"] == a["out_channels"] and all(s == 1 for s in a["stride"]):
        y = y + centre
        if module.pool:
            y = y + mean_of_taps(wide, a)
    y = norm(y, module.post_norm)
    return y if module.bias is None else y + module.bias.reshape(-1, *[1] * case.dims)


class TestQARepVGG(BlockSuite):
    name = "qarepvgg"
    typical_options: ClassVar[dict[str, Any]] = {"pool": True}
    grid: ClassVar[dict[str, list[Any]]] = {
        "norm": ["bn", "scale"],
        "pool": [False, True],
        "arguments": [{}, {"stride": (2, 2)}, {"groups": 2}, {"kernel_size": (1, 1), "padding": (0, 0)}],
    }
    oracle = staticmethod(branches)

    @staticmethod
    def options(draw: Any, kernel: tuple[int, ...]) -> dict[str, Any]:
        return {"norm": draw(st.sampled_from(["bn", "bn", "scale"])), "pool": draw(st.booleans())}

    def test_pitfall_37_alpha_counts(self) -> None:
        case = self.make()
        module, x = case.build(), case.input()
        before = module.fold()(x)
        with torch.no_grad():
            module.alpha.mul_(-2)
        same_values(module.fold()(x), branches(module, case, x))
        assert (module.fold()(x) - before).abs().max() > 1e-3

    def test_one_norm_alone_acts_on_the_identity(self) -> None:
        """A tiny variance of the inner norm leaves the identity's tap where it was, which RepVGG's does not."""
        module = blocks.QARepVGGConv2d(4, 4, 3, padding=1, bias=False, dtype=torch.float64).eval()
        torch.nn.init.zeros_(module.dense.weight)
        torch.nn.init.zeros_(module.point.weight)
        module.dense_norm.running_var.fill_(1e-9)
        weight = module.fold().weight
        expected = torch.zeros_like(weight)
        expected[range(4), range(4), 1, 1] = (1 + module.post_norm.eps) ** -0.5
        same_values(weight, expected)

    def test_alpha_starts_at_one(self) -> None:
        module = blocks.QARepVGGConv2d(4, 4, 3)
        assert (module.alpha.item(), module.alpha.shape) == (1, ())
