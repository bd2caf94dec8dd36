"""The preconditioners that convolutional chains induce: of 1x1 behind KxK, of ExpandNet, and of DO-Conv."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("sklearn")

import convfold
from convfold.blocks import build
from convfold.errors import InvalidArgument
from convfold.studies.compare.depth.chain import imbalance, preconditioned
from convfold.studies.compare.depth.network import ARMS, chain, network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def velocity(parameters: Sequence[nn.Parameter], kernel: object) -> tuple[Tensor, Tensor]:
    """Minus the kernel's derivative along gradient flow of ``L = sum sin(K * weighting)``, and dL/dK."""
    end = kernel()  # type: ignore[operator]
    weighting = normal(*end.shape, seed=5)
    slope = (weighting * (weighting * end).cos()).detach()
    flow = torch.autograd.grad((weighting * end).sin().sum(), parameters)
    # A directional derivative by differences in float64: the step's square is left.
    step = 1e-6

    def moved(sign: int) -> Tensor:
        with torch.no_grad():
            for parameter, along in zip(parameters, flow, strict=True):
                parameter += sign * step * along
            found: Tensor = kernel()  # type: ignore[operator]
            for parameter, along in zip(parameters, flow, strict=True):
                parameter -= sign * step * along
        return found

    return (moved(1) - moved(-1)) / (2 * step), slope


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() < 1e-8 * expected.abs().max())


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 4), (1, 12)])
def test_one_by_ones_behind_a_kernel_are_a_chain_of_matrices(inputs: int, outputs: int, depth: int) -> None:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, dtype=torch.float64)
    layers = chain(conv, depth).double()
    assert isinstance(layers, nn.Sequential)
    with torch.no_grad():
        # The balanced factors go through float32 when they are written into layers.
        for layer, factor in zip(layers, _factors(conv, depth), strict=True):
            layer.weight.copy_(factor.reshape(layer.weight.shape))
    weights = [layer.weight for layer in layers]
    found, slope = velocity(weights, lambda: _product(weights))
    expected = preconditioned(conv.weight.detach().flatten(1), slope, depth)
    assert close(found, expected)


def _factors(conv: nn.Conv2d, depth: int) -> list[Tensor]:
    from convfold.studies.compare.depth.chain import balanced

    return balanced(conv.weight.detach().flatten(1), depth)


def _product(weights: Sequence[Tensor]) -> Tensor:
    found = weights[0].flatten(1)
    for weight in weights[1:]:
        found = weight.flatten(1) @ found
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_expandnet_acts_on_each_channel_axis_and_on_patches(whole: bool) -> None:
    """``dK = A A^T G B^T B + G (CB)^T CB + (AC) (AC)^T G`` in the three unfoldings; at identities C = K."""
    block = build("expandnet", 2, 3, 4, 3, padding=1, bias=False, expansion=1, dtype=torch.float64)
    kernel = normal(4, 3, 3, 3)
    with torch.no_grad():
        if whole:
            block.start(kernel)
        else:
            for index, layer in enumerate(block.layers):
                layer.weight.copy_(normal(*layer.weight.shape, seed=index))
    weights = [layer.weight for layer in block.layers]
    found, slope = velocity(weights, lambda: convfold.kernel(block)[0])
    b, core, a = (weight.detach() for weight in weights)
    a, b = a.flatten(1), b.flatten(1)
    inner = torch.einsum("pqyx,qi->piyx", core, b)
    outer = torch.einsum("op,pqyx->oqyx", a, core)
    expected = torch.einsum("or,pr,piyx,qi,qj->ojyx", a, a, slope, b, b)
    expected = expected + (slope.flatten(1) @ inner.flatten(1).T @ inner.flatten(1)).reshape(slope.shape)
    part = torch.einsum("oqyx,oiyx->qi", outer, slope)
    expected = expected + torch.einsum("oqyx,qi->oiyx", outer, part)
    assert close(found, expected)
    if whole:
        assert (a - torch.eye(4)).abs().max() < 1e-12
        assert (core - kernel).abs().max() < 1e-12


@pytest.mark.parametrize("learned", [False, True])
def test_doconv_is_a_chain_of_depth_two_for_each_input_channel(learned: bool) -> None:
    block = build("doconv", 2, 3, 4, 3, padding=1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        block.start(normal(4, 3, 3, 3))
        if learned:
            block.depth.copy_(normal(*block.depth.shape, seed=2))
    found, slope = velocity([block.depth, block.conv.weight], lambda: convfold.kernel(block)[0])
    d = (block.depth + block.over).detach()
    w = block.conv.weight.detach().reshape(4, 3, -1)
    for c in range(3):
        g = slope[:, c].flatten(1)
        expected = g @ d[c] @ d[c].T + w[:, c] @ w[:, c].T @ g
        assert close(found[:, c].flatten(1), expected)
        if not learned:
            assert (d[c] - torch.eye(9)).abs().max() < 1e-12


@pytest.mark.parametrize("seed", [0, 3])
def test_all_networks_of_a_seed_are_one_function_and_one_class(seed: int) -> None:
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    plain = network("depth1", seed, 4).eval()
    sizes = set()
    for arm in ARMS:
        made = network(arm, seed, 4).eval()
        with torch.no_grad():
            assert (made(x) - plain(x)).abs().max() < 1e-5 * plain(x).abs().max()
        folded = convfold.fold(made, x)
        sizes.add(sum(parameter.numel() for parameter in folded.parameters()))
    assert sizes == {sum(parameter.numel() for parameter in plain.parameters())}


def test_chains_are_as_deep_as_said_balanced_and_without_bottleneck() -> None:
    made = network("depth4", 1, 4)
    parts = [part for part in made if isinstance(part, nn.Sequential)]
    assert [len(part) for part in parts] == [4, 4, 4]
    for part in parts:
        assert isinstance(part[0], nn.Conv2d)
        assert min(layer.out_channels for layer in part) == part[-1].out_channels
        assert imbalance([layer.weight.detach().double().flatten(1) for layer in part]) < 1e-5


def test_a_grouped_convolution_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="chain: a grouped kernel is not one matrix: got groups=2"):
        chain(nn.Conv2d(4, 4, 3, groups=2), 2)
