"""Any block as the convolution inside any other; the published compositions are in test_named_compositions."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from blocks.cases import normal
from blocks.contract import same_in_every_form
from convfold import blocks
from convfold.errors import InvalidArgument
from support.make import randomise

# What each block needs to stand for a small convolution of any kind.
OPTIONS: dict[str, dict[str, Any]] = {
    "acnet": {},
    "dbb": {},
    "dilated": {"branches": ((1, 1),)},
    "doconv": {},
    "ecb": {},
    "expandnet": {"expansion": 2},
    "fire": {},
    "mixconv": {},
    "mobileone": {"branches": 2},
    "orepa": {},
    "psconv": {"parts": 2},
    "qarepvgg": {"pool": True},
    "repvgg": {},
}


# A 1x1 with a constant stands before their inner convolution.
CHAINS = ("dbb", "ecb", "expandnet")


def within(name: str) -> Callable[..., nn.Module]:
    """A factory with nn.Conv2d's signature."""
    return partial(blocks.find(name, 2), **OPTIONS[name])


def windows_match(outer: str, inner: str) -> bool:
    """Whether the convolutions that `outer` builds are among those that `inner` stands for."""
    if outer == "psconv" and inner in ("fire", "mixconv"):
        return False  # grouped ones
    if outer == inner == "psconv":
        return False  # dilated ones
    if inner == "ecb" and outer in ("acnet", "dilated", "doconv"):
        return False  # flat ones, and ones of one tap
    return not (inner == "mixconv" and outer == "acnet")


@pytest.mark.parametrize(("outer", "inner"), list(product(OPTIONS, OPTIONS)))
def test_any_block_inside_any_other(outer: str, inner: str) -> None:
    build = partial(blocks.build, outer, 2, 4, 4, 3, padding=1, **OPTIONS[outer], conv=within(inner))
    if not windows_match(outer, inner):
        sentence = {
            "fire": "FireConv2d: fire has no groups",
            "mixconv": "MixConv2d: the (parts of mixconv are dense or depthwise|largest of kernel_sizes)",
            "psconv": r"PSConv2d: the window of the nested block is not the one that stands here: got PSConv2d.*"
            r"expected kernel_size \(3, 3\), dilation \(2, 2\). Nest another block here, or build this one without",
            "ecb": "ECBConv2d: ecb has 3x3 masks",
        }[inner]
        with pytest.raises(InvalidArgument, match=sentence):
            build()
        return
    module = randomise(build().double(), torch.Generator().manual_seed(1)).eval()
    assert any(type(m) is blocks.find(inner, 2) for m in module.modules() if m is not module)
    folded = same_in_every_form(module, normal(2, 4, 8, 9), 1e-11)
    # doconv convolves with the inner one at one tap, where no dilation shows.
    large = "psconv" in (outer, inner) and outer != "doconv"
    assert folded.kernel_size[0] > 3 if large else folded.kernel_size == (3, 3)


@pytest.mark.parametrize("bias", [True, False])
def test_psconv_inside_a_chain_leaves_its_padding_to_the_chain(bias: bool) -> None:
    """Zeros of its own would stand where a constant of the 1x1 before it is; deeper nesting hands them on."""
    module = blocks.ExpandNetConv2d(4, 4, 3, padding=1, bias=bias, expansion=2, conv="psconv", dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(1))
    assert same_in_every_form(module, normal(2, 4, 8, 9), 1e-11).kernel_size == (5, 5)
    for names in (("repvgg", "psconv"), ("dbb", "psconv"), ("expandnet", "psconv")):
        deep = blocks.DBBConv2d(4, 4, 3, padding=1, bias=bias, conv=names, dtype=torch.float64)
        deep = randomise(deep, torch.Generator().manual_seed(1)).eval()
        assert same_in_every_form(deep, normal(2, 4, 8, 9), 1e-11).kernel_size == (5, 5)


def test_a_nested_block_whose_window_cannot_match() -> None:
    for name in ("repvgg", "acnet"):
        with pytest.raises(InvalidArgument, match="Conv2d: the window of the nested block is not the one"):
            blocks.build(name, 2, 4, 4, 3, dilation=2, conv="psconv")
    assert blocks.build("repvgg", 2, 4, 4, 1, dilation=2, conv="psconv")(normal(1, 4, 3, 3).float()).shape[2:] == (3, 3)

    def fixed(*arguments: Any, **options: Any) -> nn.Module:
        return blocks.ACNetConv2d(arguments[0], arguments[1], 5, dtype=options["dtype"])

    with pytest.raises(
        InvalidArgument, match=r"not the one that stands here: got ACNetConv2d.*expected kernel_size \(3, 3\)"
    ):
        blocks.DBBConv2d(4, 4, 3, conv=fixed)


TRIPLES: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("dbb", "acnet", "expandnet"), {}),
    (("qarepvgg", "orepa", "doconv"), {"groups": 2}),
    (("fire", "repvgg", "dbb"), {"stride": 2}),
    (("ecb", "mobileone", "orepa"), {}),
    (("expandnet", "ecb", "acnet"), {"padding_mode": "reflect"}),
    (("dbb", "acnet", "expandnet", "doconv"), {}),
]


@pytest.mark.parametrize(("names", "more"), TRIPLES, ids=["-".join(names) for names, _ in TRIPLES])
def test_deeper(names: tuple[str, ...], more: dict[str, Any]) -> None:
    arguments = {"kernel_size": 3, "padding": 1, **more}
    module = blocks.build(names[0], 2, 4, 4, **arguments, conv=names[1:], dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(2)).eval()
    folded = same_in_every_form(module, normal(2, 4, 8, 9), 1e-11)
    assert (folded.kernel_size, folded.groups) == ((3, 3), arguments.get("groups", 1))
    for name in names[1:]:
        assert any(type(m) is blocks.find(name, 2) for m in module.modules())
