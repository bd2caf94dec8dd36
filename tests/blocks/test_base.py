"""What all blocks share: the registry, arguments, modes, nesting and the spread of a fresh block's outputs."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import nn

import convfold
from blocks.cases import CONVS, normal
from blocks.contract import same_values
from convfold import blocks
from convfold.errors import InvalidArgument, NotFoldable, UnknownName
from support.make import randomise

# What a block needs beside 4 -> 8 channels under a 3x3 kernel.
NEEDS: dict[str, dict[str, Any]] = {
    "acnet": {},
    "dbb": {},
    "dilated": {"branches": ((2, 1), (2, 2))},
    "doconv": {},
    "ecb": {},
    "expandnet": {},
    "fire": {},
    "mixconv": {"kernel_sizes": (1, 3)},
    "mobileone": {},
    "orepa": {},
    "psconv": {},
    "qarepvgg": {},
    "repvgg": {},
}
NAMES = list(NEEDS)
BRANCHED = ["acnet", "dbb", "dilated", "mobileone", "qarepvgg", "repvgg"]
# Feature mode is the default where one kernel costs more than the parts.
DEARER = ["fire", "mixconv", "psconv"]
GROUPED = [name for name in NAMES if name not in DEARER]


def make(name: str, dims: int, *arguments: Any, **options: Any) -> Any:
    return blocks.build(name, dims, *arguments, **{**NEEDS[name], **options})


def test_the_registry_is_complete() -> None:
    assert blocks.names() == sorted([*NAMES, "repmlp"])
    for name in NAMES:
        for dims in (2,) if name == "ecb" else (1, 2, 3):
            assert type(make(name, dims, 4, 8, 3)) is blocks.find(name, dims)
    assert type(blocks.build("expandnet", 0, 2, 4)) is blocks.ExpandNetLinear
    assert type(blocks.build("repmlp", 2, 4, 4, 2, 2)) is blocks.RepMLP2d


@pytest.mark.parametrize(("name", "near"), [("dbn", "dbb"), ("repvg", "repvgg"), ("mobilenet", "mobileone")])
def test_unknown_names_are_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=rf"unknown block: got '{name}', expected one of .*Did you mean .*{near}"):
        blocks.build(name, 2, 3, 4, 3)


def test_dims_that_a_block_does_not_have() -> None:
    with pytest.raises(
        InvalidArgument, match=r"the block dbb does not exist in 0 dimensions: got 0, expected one of \[1"
    ):
        blocks.build("dbb", 0, 3, 4)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_that_of_nn_conv_and_then_its_own(name: str) -> None:
    ours = list(inspect.signature(blocks.find(name, 2)).parameters.values())
    torchs = list(inspect.signature(nn.Conv2d).parameters.values())
    expected = {p.name: p.default for p in torchs} | ({"dilation": 2} if name == "psconv" else {})
    assert {p.name: p.default for p in ours[: len(torchs)]} == expected
    assert [p.name for p in ours[: len(torchs)]] == [p.name for p in torchs]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[len(torchs) :])
    # Positional arguments land where nn.Conv2d puts them.
    groups = 2 if name in GROUPED else 1
    arguments = (4, 8, 3, 2, 1, 1, groups, False, "circular", "cpu", torch.float64)
    block, conv = blocks.find(name, 2)(*arguments, **NEEDS[name]), nn.Conv2d(*arguments)
    for attribute in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(block, attribute) == getattr(conv, attribute)
    assert {p.dtype for p in block.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"groups": 3}, r"groups must divide in_channels and out_channels: got groups=3 with 4 -> 8 .*expected one of"),
        ({"padding_mode": "same"}, "Conv2d: padding_mode is unknown: got 'same', expected 'zeros', 'reflect'"),
        ({"padding": "full"}, "padding is unknown: got 'full', expected 'same', 'valid' or integers"),
        ({"padding": "same", "stride": 2}, r"padding='same' has no meaning with a stride: got stride \(2, 2\)"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size has the wrong length: got \(3, 3, 3\), expected 2 integers"),
        ({"kernel_size": 0}, "kernel_size is too small: got 0, expected at least 1 each"),
        ({"stride": 1.5}, "stride is neither an integer nor a tuple of integers: got 1.5, expected 2 integers"),
        ({"padding": -1}, "padding is too small: got -1, expected at least 0 each"),
        ({"wdith": 3}, r"Conv2d: got an unexpected keyword argument 'wdith': expected its own options: "),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_fit_no_convolution(name: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        make(name, 2, **{"in_channels": 4, "out_channels": 8, "kernel_size": 3, **arguments})


def test_modes() -> None:
    assert {name: make(name, 2, 4, 4, 3).mode for name in NAMES} == {
        name: "feature" if name in BRANCHED + DEARER else "kernel" for name in NAMES
    }
    assert blocks.DBBConv2d(2, 2, 3, norm="scale").mode == "kernel"
    block = blocks.DBBConv2d(2, 2, 3)
    with pytest.raises(InvalidArgument, match="DBBConv2d: mode is unknown: got 'kernels', expected 'feature' or"):
        block.mode = "kernels"
    assert block.mode == "feature"


@pytest.mark.parametrize("name", BRANCHED)
def test_norm_is_one_of_two(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Conv2d: norm is unknown: got 'layer', expected 'bn' or 'scale'"):
        make(name, 2, 2, 2, 3, norm="layer")


@pytest.mark.parametrize("name", BRANCHED)
def test_kernel_mode_with_batch_statistics_does_not_exist(name: str) -> None:
    block = make(name, 2, 2, 2, 3).train()
    block.mode = "kernel"
    match = 'BatchNorm2d is not folded: in training mode .*build the block with norm="scale"'
    with pytest.raises(NotFoldable, match=match):
        block(torch.randn(2, 2, 5, 5))
    with pytest.raises(NotFoldable, match=r"BatchNorm2d is not folded: it is in training mode.*Call eval\(\)"):
        block.fold()
    scaled = make(name, 2, 2, 2, 3, norm="scale").train()
    scaled(torch.randn(2, 2, 5, 5)).sum().backward()
    assert type(scaled.fold()) is nn.Conv2d


@pytest.mark.parametrize("name", NAMES)
def test_the_equivalent_kernel_is_differentiable_and_that_of_the_fold(name: str) -> None:
    block = randomise(make(name, 2, 4, 4, 3, padding=1).double(), torch.Generator().manual_seed(3)).train()
    weight, bias = convfold.kernel(block)
    folded = block.eval().fold()
    same_values(weight.detach(), folded.weight)
    same_values(bias.detach(), folded.bias)
    (weight.square().sum() + bias.square().sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_finite_are_refused(name: str, value: float) -> None:
    block = make(name, 2, 4, 4, 3).eval()
    with torch.no_grad():
        next(p for p in block.parameters() if p.dim() > 1).flatten()[3] = value
    match = r"kernel is not folded: 1 of its \d+ values in a tensor of shape .* are not finite. Repair"
    if name in ("doconv", "orepa"):  # what they add up before they give their equation holds several by then
        match = "are not finite"
    with pytest.raises(NotFoldable, match=match):
        block.fold()


def factory(*arguments: Any, **options: Any) -> nn.Module:
    return nn.Conv2d(*arguments, **options)


NESTED: list[tuple[str, Any, dict[str, Any]]] = [
    ("dbb", ("acnet", "expandnet"), {}),
    ("dbb", "doconv", {}),
    ("repvgg", "dbb", {"stride": 2, "padding": 2}),
    ("mobileone", ("dbb",), {"groups": 4}),
    ("acnet", "mobileone", {"padding_mode": "reflect"}),
    ("acnet", "doconv", {"norm": "scale"}),
    ("expandnet", "dbb", {}),
    ("expandnet", ("repvgg", "doconv"), {"kernel_size": 5, "form": "ck", "padding": 2}),
    ("doconv", "repvgg", {"groups": 2}),
    ("dbb", factory, {"dilation": 2, "padding": 2}),
]


@pytest.mark.parametrize(
    ("name", "inner", "options"), NESTED, ids=[f"{a}-{getattr(b, '__name__', b)}" for a, b, _ in NESTED]
)
def test_nesting(name: str, inner: Any, options: dict[str, Any]) -> None:
    arguments = {"kernel_size": 3, "padding": 1, **options}
    block = blocks.build(name, 2, 4, 4, **arguments, conv=inner).double()
    randomise(block, torch.Generator().manual_seed(7)).eval()
    x = normal(2, 4, 7, 8)
    block.mode = "feature"
    y = block(x)
    block.mode = "kernel"
    same_values(block(x), y)
    same_values(block.fold()(x), y)
    assert type(block.fold()) is nn.Conv2d
    assert block.fold().stride == block.stride
    weight = normal(4, 4 // arguments.get("groups", 1), *block.kernel_size)
    bias = normal(4)
    block.start(weight, bias)
    conv = nn.Conv2d(4, 4, **{k: v for k, v in arguments.items() if k not in ("norm", "form")}).double()
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
    same_values(block(x), conv(x))


def test_nesting_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown block: got 'dbbb'"):
        blocks.DBBConv2d(4, 4, 3, conv="dbbb")


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_block_spreads_about_as_a_fresh_convolution(name: str, dims: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, *[12] * dims if dims < 3 else [6] * dims)
    if dims != 2 and name == "ecb":
        return
    options = {"norm": "scale"} if name in BRANCHED else {}
    kernel = 7 if name == "dilated" else 3
    options = {**({} if name == "dilated" else NEEDS[name]), **options}

    def spread(make: Any) -> float:
        return sum(make()(x).std().item() for _ in range(4)) / 4

    plain = spread(lambda: CONVS[dims](32, 32, 3, padding=1))
    groups = 32 if name == "dilated" else 1  # published for depthwise kernels, started there with little
    block = spread(
        lambda: blocks.build(name, dims, 32, 32, kernel, padding=kernel // 2, groups=groups, **options).train()
    )
    # One convolution has a spread of about 1/sqrt(3) per unit of input. A chain of three such layers loses that
    # each time; a sum of branches with an identity gains. Neither may vanish or explode.
    assert 0.1 < block / plain < 4


@pytest.mark.parametrize("name", NAMES)
def test_a_deep_stack_stays_bounded(name: str) -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(*[make(name, 2, 16, 16, 3, padding=1) for _ in range(8)]).train()
    y = stack(torch.randn(8, 16, 8, 8))
    assert torch.isfinite(y).all()
    assert y.abs().max() < 1e3
    assert all(torch.isfinite(p).all() for p in stack.parameters())


def test_choices_live_in_the_block_and_not_in_the_process() -> None:
    a = blocks.DBBConv2d(2, 2, 3, conv="doconv", norm="scale")
    b = blocks.DBBConv2d(2, 2, 3)
    a.mode = "feature"
    assert (a.norm, b.norm) == ("scale", "bn")
    assert isinstance(a.dense, blocks.DOConv2d)
    assert type(b.dense) is nn.Conv2d
    assert blocks.DBBConv2d(2, 2, 3, norm="scale").mode == "kernel"


def test_autocast_composes_in_full_precision() -> None:
    block = blocks.ExpandNetConv2d(4, 4, 3, padding=1)
    x = torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
        folded = block.fold()(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, folded)
