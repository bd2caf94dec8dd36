"""Large kernels: after each other where the kernel is such a product, else beside each other; both exact."""

import random
from math import prod

import pytest
import torch
from torch import Tensor, nn

from convfold.transform.lower import MaxKernel, Target, lower
from convfold.transform.lower.rules.polynomials import convolved, pieces
from convfold.transform.lower.steps import Stack, Tiles
from support.lowering import convolution, hold

SMALL = Target("small", (MaxKernel(3),))


def product_kernel(layer: nn.Conv2d, draw: random.Random, by_input: bool) -> None:
    """Give the layer a kernel ``A[o, c] * u[c, i] * v[c, j]`` (or of o) whose factors are sums of positive taps."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    outs, ins = layer.weight.shape[:2]
    groups = layer.groups

    def vectors(count: int, taps: int) -> Tensor:
        return 0.2 + torch.rand(count, taps, generator=generator, dtype=torch.float64)

    rows, columns = layer.kernel_size
    count = layer.in_channels if by_input else outs
    shape = vectors(count, rows)[:, :, None] * vectors(count, columns)[:, None, :]
    matrix = torch.randn(groups, outs // groups, ins, 1, 1, generator=generator, dtype=torch.float64)
    blocks = shape.reshape(groups, -1, rows, columns)
    blocks = blocks[:, None] if by_input else blocks[:, :, None]
    with torch.no_grad():
        layer.weight.copy_((matrix * blocks).flatten(0, 1))


@pytest.mark.parametrize("by_input", [True, False])
def test_products_are_stacked(by_input: bool) -> None:
    draw, seen = random.Random(f"stack {by_input}"), {Stack: 0, Tiles: 0}
    for _ in range(200):
        taps = (draw.choice((5, 7, 9)), draw.choice((5, 6, 8)))
        depthwise = draw.random() < 0.5
        groups = draw.choice((2, 3, 4)) if depthwise else draw.choice((1, 2))
        width = 1 if depthwise else draw.choice((3, 4))
        outs = groups * (draw.choice((1, 2)) if depthwise and not by_input else width)
        stride = draw.choice(((1, 1), (1, 1), (1, 2)))
        layer = convolution(
            draw, dims=2, kernel_size=taps, groups=groups, in_channels=groups * width, out_channels=outs, stride=stride
        )
        product_kernel(layer, draw, by_input)
        lowered = hold(layer, SMALL, draw)
        kinds = [type(part) for part in lowered.modules()]
        seen[Stack] += Stack in kinds
        seen[Tiles] += Tiles in kinds
        if Stack in kinds and layer.stride == (1, 1):
            taps_of = [prod(p.shape) for p in lowered.parameters() if p.dim() == 4]
            assert sum(taps_of) < layer.weight.numel()
    # Strides make some dearer, and random factors some inexact: those are tiles.
    assert seen[Stack] > 60, seen
    assert seen[Stack] + seen[Tiles] == 200, seen


def test_a_kernel_that_is_no_product_becomes_tiles_and_costs_the_same() -> None:
    draw = random.Random(0)
    layer = convolution(draw, dims=2, kernel_size=(7, 7), groups=4, in_channels=4, out_channels=4, padding=3, stride=1)
    model, report = lower(layer, torch.randn(1, 4, 15, 13, dtype=torch.float64), "max-kernel-3", report=True)
    assert any(isinstance(part, Tiles) for part in model.modules())
    assert report.rows[0].macs_before == report.rows[0].macs_after > 0
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv2d)} == {(3, 3), (3, 2), (2, 3), (2, 2)}


def test_a_blur_in_single_precision_is_stacked_within_the_rounding_of_its_weights() -> None:
    row = torch.tensor([1.0, 6, 15, 20, 15, 6, 1]) / 64
    layer = nn.Conv2d(4, 4, 7, padding=3, groups=4, padding_mode="reflect")
    with torch.no_grad():
        layer.weight.copy_((row[:, None] * row).expand(4, 1, 7, 7))
    model, report = lower(layer, torch.randn(1, 4, 16, 16), "max-kernel-3", report=True)
    assert any(isinstance(part, Stack) for part in model.modules())
    [stated] = report.rows
    assert stated.macs_after < stated.macs_before
    assert 0 < stated.error <= stated.bound < 1e-4
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_factors_that_cancel_each_other_are_left_for_tiles() -> None:
    # u(z) u(-z) with all taps of u of one sign: every other tap of the product is zero, none of its factors' are.
    half = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64)
    row = convolved(half, half * torch.tensor([1.0, -1, 1, -1, 1], dtype=torch.float64))
    layer = nn.Conv2d(1, 1, 9, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_((row[:, None] * row)[None, None])
    kinds = [type(part) for part in hold(layer, SMALL, random.Random(0)).modules()]
    assert Tiles in kinds
    assert Stack not in kinds


@pytest.mark.parametrize(
    "kernel",
    [
        [1.0, 4, 6, 4, 1],
        [0.0, 0, 2, -1, 0],
        [0.0, 0, 0, 0, 0],
        [5.0, 0, 0, 0, 0],
        [0.0, 0, 0, 0, -3],
        [1.0, -1, 1, -1, 1],
        [1e-9, 1, 2, 3, 1e9],
        [-2.0, 1, 1, 1, 1, 3],
    ],
)
def test_pieces_multiply_to_the_kernel(kernel: list[float]) -> None:
    given = torch.tensor(kernel, dtype=torch.float64)
    count = -(-(len(kernel) - 1) // 2)
    whole = torch.ones(1, dtype=torch.float64)
    for piece in pieces(given, 3, count):
        assert len(piece) == 3
        whole = convolved(whole, piece)
    torch.testing.assert_close(whole[: len(kernel)], given, rtol=0, atol=1e-14 * float(given.abs().max() or 1))
    assert not whole[len(kernel) :].any()
