"""The start of a block at a given convolution: exact in eval, exact in training where promised, alive everywhere."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocks.cases import CONVS, normal
from blocks.contract import same_values
from convfold import blocks
from convfold.errors import InvalidArgument, InvalidType
from support.make import randomise

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
BRANCHED = ["acnet", "dbb", "dilated", "mobileone", "repvgg"]
# Blocks whose class holds every convolution, and those whose class does not.
STARTS = [*BRANCHED, "doconv", "ecb", "expandnet", "orepa", "qarepvgg"]
OUTSIDE = ["fire", "mixconv", "psconv"]
OPTIONS: dict[str, dict[str, Any]] = {"dilated": {"branches": ((1, 1), (1, 2))}, "ecb": {"identity": True}}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 2},
    "even": {"kernel_size": 4, "padding": "same"},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 1, "padding_mode": "circular"},
    "depthwise": {"kernel_size": 3, "groups": 4},
    "grouped": {"kernel_size": 5, "groups": 2, "padding": 2},
    "point": {"kernel_size": 1},
}


def convolution(dims: int, arguments: dict[str, Any], outputs: int = 4) -> Any:
    conv = CONVS[dims](4, outputs, **arguments).double()
    return randomise(conv, torch.Generator().manual_seed(1))


def trained_norm(dims: int, channels: int = 4, **options: Any) -> Any:
    return randomise(
        NORMS[dims](channels, eps=1e-3, momentum=0.3, **options).double(), torch.Generator().manual_seed(2)
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("name", STARTS)
def test_starts_at_the_convolution_in_eval(name: str, arguments: dict[str, Any], dims: int) -> None:
    if name == "ecb" and (dims != 2 or arguments["kernel_size"] != 3):
        return
    conv, x = convolution(dims, arguments), normal(2, 4, *[7] * dims)
    block = blocks.build(name, dims, 4, 4, **arguments, **OPTIONS.get(name, {}), dtype=torch.float64).eval()
    block.start(conv.weight, conv.bias)
    for mode in ("feature", "kernel"):
        block.mode = mode
        same_values(block(x), conv(x))
    same_values(block.fold().weight, conv.weight)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("arguments", [ARGUMENTS["plain"], ARGUMENTS["strided"], ARGUMENTS["depthwise"]])
@pytest.mark.parametrize("name", BRANCHED)
def test_takes_in_a_norm_exactly_in_eval_and_in_training(name: str, arguments: dict[str, Any], bias: bool) -> None:
    conv, norm, x = convolution(2, {**arguments, "bias": bias}), trained_norm(2), normal(3, 4, 7, 7)
    block = blocks.build(name, 2, 4, 4, **arguments, **OPTIONS.get(name, {}), bias=False, dtype=torch.float64)
    block.start(conv.weight, conv.bias, norm)
    plain = nn.Sequential(conv, norm)
    same_values(block.eval()(x), plain.eval()(x))
    for _ in range(3):
        same_values(block.train()(x), plain.train()(x))
    # A bias before the norm is taken out of its running mean; the variance is the same.
    shift = conv.bias if bias else torch.zeros(4)
    torch.testing.assert_close(block.dense_norm.running_mean, norm.running_mean - shift, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block.dense_norm.running_var, norm.running_var, rtol=1e-12, atol=0)
    same_values(block.eval()(x), plain.eval()(x))
    assert {(m.eps, m.momentum) for m in block.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.3)}


@pytest.mark.parametrize("name", BRANCHED)
def test_a_norm_without_factors_is_taken_in(name: str) -> None:
    conv, norm, x = convolution(2, ARGUMENTS["plain"]), trained_norm(2, affine=False), normal(2, 4, 6, 6)
    block = blocks.build(name, 2, 4, 4, 3, padding=1, bias=False, dtype=torch.float64, **OPTIONS.get(name, {}))
    block.start(conv.weight, conv.bias, norm)
    same_values(block.eval()(x), nn.Sequential(conv, norm).eval()(x))


@pytest.mark.parametrize("name", STARTS)
def test_every_part_learns_after_at_most_one_step(name: str) -> None:
    conv, norm = convolution(2, {"kernel_size": 3, "padding": 1}), trained_norm(2)
    options = {"bias": not block_has_norm(name), **OPTIONS.get(name, {})}
    block = blocks.build(name, 2, 4, 4, 3, padding=1, dtype=torch.float64, **options).train()
    block.start(conv.weight, conv.bias, norm if block_has_norm(name) else None)
    optimiser = torch.optim.SGD(block.parameters(), lr=0.01)
    reached: set[str] = set()
    for step in range(2):
        optimiser.zero_grad()
        loss = (block(normal(4, 4, 6, 6, seed=step)) * normal(4, 4, 6, 6, seed=step + 5)).square().sum()
        loss.backward()
        reached |= {name for name, p in block.named_parameters() if p.grad.abs().max() > 1e-9}
        optimiser.step()
    missing = {name for name, _ in block.named_parameters()} - reached
    if name == "dbb":
        # A constant before a norm that trains has no gradient, in whatever network: these shifts stand before one.
        missing -= {"squeeze_norm.bias", "pool_point_norm.bias"}
    if name == "qarepvgg":
        missing -= {"dense_norm.bias"}  # likewise
    if name == "ecb":
        # The masks' taps sum to zero, so that a constant before them is never seen, at the border neither.
        missing -= {"points.sobel_x.bias", "points.sobel_y.bias", "points.laplacian.bias"}
    assert not missing, f"no gradient reaches {missing}"


def block_has_norm(name: str) -> bool:
    return blocks.find(name, 2).has_norm


@pytest.mark.parametrize("expansion", [1, 2, 4])
def test_a_wide_chain_gives_its_spare_channels_a_gradient(expansion: int) -> None:
    conv = convolution(2, {"kernel_size": 3, "padding": 1})
    block = blocks.ExpandNetConv2d(4, 4, 3, padding=1, expansion=expansion, dtype=torch.float64)
    block.start(conv.weight, conv.bias)
    (block(normal(2, 4, 6, 6)) * normal(2, 4, 6, 6, seed=3)).sum().backward()
    middle = block.layers[1].weight.grad
    # The published zeros beside the identity would leave all but the corner without gradient for ever.
    assert (middle.abs().amax((2, 3)) > 1e-9).all()


@pytest.mark.parametrize(
    ("dims", "kernel", "expansion"),
    [
        (1, 5, 2), (1, 7, 4), (1, 9, 3), (2, 5, 4), (2, (5, 3), 4), (2, (1, 5), 2), (2, (7, 5), 6), (2, 7, 4),
        (3, (5, 1, 3), 4), (3, 5, 8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("groups", [1, 2])
def test_a_stack_starts_at_any_kernel_it_has_room_for(dims: int, kernel: Any, expansion: int, groups: int) -> None:
    arguments = {"kernel_size": kernel, "padding": 2, "groups": groups}
    conv, x = convolution(dims, arguments, outputs=2), normal(2, 4, *[8] * dims)
    block = blocks.build("expandnet", dims, 4, 2, **arguments, form="ck", expansion=expansion, dtype=torch.float64)
    block.start(conv.weight, conv.bias)
    same_values(block(x), conv(x))
    block.mode = "feature"
    same_values(block(x), conv(x))
    same_values(block.fold().weight, conv.weight)
    (block(x) * normal(*conv(x).shape, seed=4)).sum().backward()
    assert all(p.grad.abs().max() > 1e-9 for p in block.parameters())


@pytest.mark.parametrize(("dims", "kernel", "needed"), [(1, 5, 8), (2, 5, 16), (2, 9, 16), (3, 5, 32)])
def test_a_narrow_stack_says_what_it_needs(dims: int, kernel: int, needed: int) -> None:
    block = blocks.build("expandnet", dims, 4, 4, kernel, form="ck", expansion=1)
    match = (
        rf"the chain is too narrow to start from a given kernel: got 4 channels per group, expected at least {needed}"
    )
    if kernel == 9:
        match = "the chain is too narrow"
    with pytest.raises(InvalidArgument, match=f'{match}.*Raise expansion=, or use form="cl"'):
        block.start(torch.zeros(4, 4, *[kernel] * dims))


def test_linear_layers_start_too() -> None:
    for depth in (1, 2, 3, 4):
        linear = randomise(nn.Linear(5, 3).double(), torch.Generator().manual_seed(0))
        block = blocks.ExpandNetLinear(5, 3, depth=depth, dtype=torch.float64)
        block.start(linear.weight, linear.bias)
        x = normal(4, 5)
        same_values(block(x), linear(x))
        (block(x) * normal(4, 3)).sum().backward()
        assert all(p.grad.abs().max() > 1e-9 for p in block.parameters())


def test_doconv_holds_the_kernel_in_its_first_copy() -> None:
    weight = normal(6, 4, 3, 3)
    for D_mul in (9, 13, 27):
        block = blocks.DOConv2d(4, 6, 3, D_mul=D_mul, bias=False, dtype=torch.float64)
        block.start(weight)
        assert torch.equal(block.fold().weight, weight)
        assert block.depth.abs().max() == 0


def test_the_kernel_that_was_given_is_left_alone() -> None:
    weight, norm = nn.Parameter(normal(4, 4, 3, 3)), trained_norm(2)
    before, state = weight.detach().clone(), copy.deepcopy(norm.state_dict())
    block = blocks.DBBConv2d(4, 4, 3, padding=1, bias=False, dtype=torch.float64).train()
    block.start(weight, normal(4), norm)
    block(normal(2, 4, 5, 5)).sum().backward()
    assert torch.equal(weight, before)
    assert all(torch.equal(value, state[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("pool", [False, True])
def test_qarepvgg_takes_in_a_norm_exactly_in_eval_mode_only(pool: bool, arguments: dict[str, Any]) -> None:
    conv, norm, x = convolution(2, arguments), trained_norm(2), normal(3, 4, 9, 9)
    block = blocks.QARepVGGConv2d(4, 4, **arguments, bias=False, pool=pool, dtype=torch.float64)
    block.start(conv.weight, conv.bias, norm)
    plain = nn.Sequential(conv, norm)
    same_values(block.eval()(x), plain.eval()(x))
    # In training its inner norm uses the batch, where the plain network has none: promised in eval mode alone.
    assert (block.train()(x) - plain.train()(x)).abs().max() > 1e-6
    assert not block.exact_in_training


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_class_without_the_kernel_says_so(name: str) -> None:
    block = blocks.build(name, 2, 4, 4, 3, padding=1, **OPTIONS.get(name, {}))
    before = copy.deepcopy(block.state_dict())
    sentence = (
        rf"{type(block).__name__}: it cannot start from a given kernel: got a kernel outside its class. "
        r"expand\(..., exact=False\) puts it there with a new function"
    )
    with pytest.raises(InvalidArgument, match=sentence):
        block.start(normal(4, 4, 3, 3))
    assert all(torch.equal(value, before[key]) for key, value in block.state_dict().items())


@pytest.mark.parametrize("name", ["ecb", "orepa"])
def test_blocks_without_statistics_start_exactly_in_training_too(name: str) -> None:
    for arguments in (ARGUMENTS["plain"], ARGUMENTS["strided"], ARGUMENTS["depthwise"], ARGUMENTS["dilated"]):
        conv, x = convolution(2, arguments), normal(2, 4, 7, 7)
        block = blocks.build(name, 2, 4, 4, **arguments, **OPTIONS.get(name, {}), dtype=torch.float64).train()
        block.start(conv.weight, conv.bias)
        weights = normal(*conv(x).shape, seed=3)
        for mode in ("feature", "kernel"):
            block.mode = mode
            same_values(block(x), conv(x))
        # The dense kernel learns as the plain one does: the same gradient at the start.
        (block(x) * weights).sum().backward()
        (conv(x) * weights).sum().backward()
        same_values(block.dense.weight.grad, conv.weight.grad, ceiling=1e-10)
        with pytest.raises(InvalidArgument, match=f"{name} has no normalisation of its own: got a norm to start from"):
            block.start(conv.weight, None, trained_norm(2))


def test_sentences() -> None:
    with pytest.raises(InvalidArgument, match=r"the block was built with bias=False: got a bias to start from\."):
        blocks.RepVGGConv2d(4, 4, 3, bias=False).start(torch.zeros(4, 4, 3, 3), torch.zeros(4))

    class Own(nn.Module):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__()
            self.kernels = nn.Parameter(torch.zeros(4, 4, 3, 3))

        def op(self) -> Any:
            raise NotImplementedError

        def forward(self, x: Tensor) -> Tensor:
            return x

    block = blocks.RepVGGConv2d(4, 4, 3, conv=Own)
    match = r"Own: an inner convolution cannot be started from a given kernel: expected .* \(4, 4, 3, 3\)"
    with pytest.raises(InvalidType, match=match):
        block.start(torch.zeros(4, 4, 3, 3))
