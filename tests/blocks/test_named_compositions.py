"""Five published compositions of blocks: each an expression, folded by the general laws alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.cases import normal
from blocks.contract import same_in_every_form, same_values
from convfold import blocks
from convfold.algebra import Concat, Identity, Op, Pad, Select, apply, chain_of, kernel
from convfold.algebra import op as read
from convfold.algebra.readings.module import fold_module
from convfold.errors import NotFoldable
from support.make import randomise


class Composed(nn.Module):
    """A module of blocks with an equation: what anybody may write."""

    mode = "feature"

    def op(self) -> Op:
        raise NotImplementedError

    def written_out(self, x: Tensor) -> Tensor:
        """The same on features, with torch's own slices, sums and concatenations."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.op() if self.mode == "feature" else kernel(self.op()), x)

    def fold(self) -> nn.Module:
        return fold_module(self)


def settle(module: Composed, seed: int = 3) -> Any:
    return randomise(module.double(), torch.Generator().manual_seed(seed)).eval()


class SkipDBB(Composed):
    """ResNet's skip around DBB: ``y = DBB(x) + x``."""

    def __init__(self) -> None:
        super().__init__()
        self.body = blocks.DBBConv2d(6, 6, 3, padding=1)

    def op(self) -> Op:
        return read(self.body) + Identity(6, 2)

    def written_out(self, x: Tensor) -> Tensor:
        return self.body(x) + x


def cropped(channels: int, by: int) -> Pad | None:
    return Pad(channels, ((-by, -by), (-by, -by))) if by else None


def crop(x: Tensor, by: int) -> Tensor:
    return x[..., by : x.shape[-2] - by, by : x.shape[-1] - by] if by else x


class Res2NetACNet(Composed):
    """Res2Net's splits: ``y_1 = x_1, y_2 = A_2(x_2), y_j = A_j(x_j + y_{j-1})``, concatenated.

    Padding stands on the whole, once, so that the chain is one convolution at the border too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(blocks.ACNetConv2d(2, 2, 3) for _ in range(3))

    def op(self) -> Op:
        shares: list[Op] = [Select.block(2 * j, 2 * j + 2, 8, 2) for j in range(4)]
        done: list[Op] = [shares[0]]
        reach: list[int] = [0]
        for j, part in enumerate(self.parts, start=1):
            before = shares[j]
            if j > 1:
                before = chain_of(before, cropped(2, reach[-1])) + done[-1]
            done.append(before >> read(part))
            reach.append(reach[-1] + 1)
        last = reach[-1]
        joined = Concat(tuple(chain_of(y, cropped(2, last - r)) for y, r in zip(done, reach, strict=True)))
        return Pad(8, ((last, last), (last, last))) >> joined

    def written_out(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (3, 3, 3, 3))
        first, second, third, fourth = x.split(2, 1)
        y2 = self.parts[0](second)
        y3 = self.parts[1](crop(third, 1) + y2)
        y4 = self.parts[2](crop(fourth, 2) + y3)
        return torch.cat([crop(first, 3), crop(y2, 2), crop(y3, 1), y4], 1)


class PSConvACNet(Composed):
    """PSConv's parts made of ACNets, beside an ACNet: ``y = PSConv[ACNet](x) + ACNet(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = blocks.PSConv2d(8, 8, 3, padding=1, conv="acnet")
        self.square = blocks.ACNetConv2d(8, 8, 3, padding=1)

    def op(self) -> Op:
        return read(self.scales) + read(self.square)

    def written_out(self, x: Tensor) -> Tensor:
        return self.scales(x) + self.square(x)


class DenseNetACNet(Composed):
    """DenseNet's concatenation: ``y = [x; A_1(x); A_2([x; A_1(x)])]``, padded once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = blocks.ACNetConv2d(4, 3, 3), blocks.ACNetConv2d(7, 3, 3)

    def op(self) -> Op:
        one = read(self.first)
        together = Concat((chain_of(cropped(4, 1)), one))
        return Pad(4, ((2, 2), (2, 2))) >> Concat(
            (chain_of(cropped(4, 2)), chain_of(one, cropped(3, 1)), together >> read(self.second))
        )

    def written_out(self, x: Tensor) -> Tensor:
        wide = nn.functional.pad(x, (2, 2, 2, 2))
        one = self.first(wide)
        two = self.second(torch.cat([crop(wide, 1), one], 1))
        return torch.cat([x, crop(one, 1), two], 1)


NAMED: dict[str, tuple[type[Composed], int, tuple[int, ...], tuple[int, ...]]] = {
    "ResNet skip + DBB": (SkipDBB, 6, (6, 6, 3, 3), (1, 1)),
    "Res2Net splits + ACNet": (Res2NetACNet, 8, (8, 8, 7, 7), (3, 3)),
    "PSConv + ACNet": (PSConvACNet, 8, (8, 8, 9, 9), (4, 4)),
    "DenseNet concatenation + ACNet": (DenseNetACNet, 4, (10, 4, 5, 5), (2, 2)),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_composition_is_one_convolution(name: str) -> None:
    cls, channels, shape, padding = NAMED[name]
    module, x = settle(cls()), normal(2, channels, 10, 11)
    with torch.no_grad():
        truth = module.written_out(x)
        same_values(module(x), truth)
    folded = same_in_every_form(module, x)
    same_values(folded(x), truth)
    assert folded.weight.shape == shape
    assert folded.padding == padding
    weight, bias = convfold.kernel(module)
    same_values(nn.functional.conv2d(x, weight, bias, padding=padding), truth)


def test_expandnet_inside_acnet_inside_dbb() -> None:
    module = blocks.build("dbb", 2, 6, 8, 3, padding=1, conv=("acnet", "expandnet"), dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(5)).eval()
    assert type(module.dense) is blocks.ACNetConv2d
    assert [type(part) for part in (module.dense.dense, *module.dense.flat)] == [blocks.ExpandNetConv2d] * 3
    x = normal(2, 6, 8, 9)
    folded = same_in_every_form(module, x, 1e-11)
    assert (folded.weight.shape, folded.padding) == ((8, 6, 3, 3), (1, 1))
    plain = convfold.fold(module, x)
    assert type(plain) is nn.Conv2d
    assert convfold.verify(module, plain, x)


@pytest.mark.parametrize("cls", [SkipDBB, DenseNetACNet])
def test_the_general_fold_takes_a_composition_as_one_region_where_that_is_cheaper(cls: type[Composed]) -> None:
    module = settle(cls())
    channels = NAMED["ResNet skip + DBB" if cls is SkipDBB else "DenseNet concatenation + ACNet"][1]
    x = normal(2, channels, 10, 11)
    decided = convfold.plan(module, x)
    plain = decided.apply()
    same_values(plain(x), module(x))
    assert decided.after.macs <= decided.before.macs
    if cls is SkipDBB:
        assert type(plain) is nn.Conv2d


class PaddedRes2Net(nn.Module):
    """As published: every 3x3 pads its own input. No single convolution at the border; no op() either."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(blocks.ACNetConv2d(2, 2, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = x.split(2, 1)
        done = [first, self.parts[0](rest[0])]
        for part, share in zip(list(self.parts)[1:], rest[1:], strict=True):
            done.append(part(share + done[-1]))
        return torch.cat(done, 1)


def test_published_res2net_folds_to_the_cheapest_exact_equivalent() -> None:
    module = settle(PaddedRes2Net())  # type: ignore[arg-type]
    x = normal(2, 8, 10, 11)
    plain = convfold.fold(module, x)
    same_values(plain(x), module(x))
    assert [type(part) for part in plain.parts] == [nn.Conv2d] * 3
    assert convfold.verify(module, plain, x)
    # One convolution would be wrong in the outer rings, so the law refuses it, naming the way out.
    chain = read(module.parts[0]) >> read(module.parts[1])
    with pytest.raises(NotFoldable, match=r"border|pads with zeros where the first one's response is not zero"):
        kernel(chain)


def test_psconv_with_acnet_folds_part_by_part_where_one_kernel_is_dearer() -> None:
    module = settle(PSConvACNet())
    x = normal(1, 8, 10, 11)
    wide, whole = convfold.cost(module, x), convfold.cost(module.fold(), x)
    with torch.no_grad():
        truth = module(x)
    module.square = module.square.fold()
    module.scales.parts = nn.ModuleList(part.fold() for part in module.scales.parts)
    with torch.no_grad():
        same_values(module(x), truth)
    parts = convfold.cost(module, x)
    assert (wide.convolutions, parts.convolutions, whole.convolutions) == (12, 4, 1)
    assert parts.macs < wide.macs
    assert parts.macs < whole.macs / 3
    # Each block alone is folded by the general fold too; what is left of psconv then costs least as it stands.
    assert type(convfold.fold(module.square, x)) is nn.Conv2d
    assert type(convfold.fold(module.scales, x)) is blocks.PSConv2d
