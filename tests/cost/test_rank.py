"""Ranks of kernels by construction; degrees of freedom against the rank of the map from parameters to the kernel."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from convfold.blocks import build
from convfold.cost.rank import KernelRank, degrees_of_freedom, kernel_rank
from convfold.errors import InvalidArgument


def dimension(module, x):
    """The oracle: the rank, at a random point, of the derivative of all outputs by all parameters."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(0)
    point = {n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in module.named_parameters()}

    def outputs(values):
        return functional_call(module, values, (x.double(),)).flatten()

    jacobian = torch.func.jacrev(outputs)(point)
    matrix = torch.cat([part.flatten(1) for part in jacobian.values()], 1)
    return int(torch.linalg.matrix_rank(matrix))


def probes(channels, size, count=20):
    """Enough random inputs that what the outputs can do is what the map can do."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


CHAINS = {
    "bottleneck 1x1": (lambda: [nn.Conv2d(5, 2, 1, bias=False), nn.Conv2d(2, 4, 1)], 2 * 5 + 2 * 4 - 4 + 4),
    "wide middle": (lambda: [nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 4, 1, bias=False)], 12),
    "bias before a bottleneck": (lambda: [nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1, bias=False)], 2 * 8 - 4 + 2),
    "separable": (lambda: [nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 5, 1, bias=False)], 4 * (9 + 5 - 1)),
    "multiplier 2": (lambda: [nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.Conv2d(6, 5, 1)], 3 * 2 * (9 + 5 - 2) + 5),
    "multiplier above full": (lambda: [nn.Conv2d(2, 8, 2, groups=2, bias=False), nn.Conv2d(8, 3, 1, bias=False)], 24),
    "1x1 then depthwise": (lambda: [nn.Conv2d(4, 3, 1, bias=False), nn.Conv2d(3, 3, 3, groups=3)], 3 * (4 + 9 - 1) + 3),
    "spatial": (lambda: [nn.Conv2d(3, 2, (3, 1), bias=False), nn.Conv2d(2, 3, (1, 3), bias=False)], 2 * 9 + 2 * 9 - 4),
    "grouped pointwise twice": (lambda: [nn.Conv2d(4, 4, 1, groups=2, bias=False), nn.Conv2d(4, 6, 1, bias=False)], 24),
    "with batch norm": (lambda: [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)], 4 * 27 + 4),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_reach_as_many_maps_as_the_derivative_says(name):
    make, expected = CHAINS[name]
    module = nn.Sequential(*make())
    assert degrees_of_freedom(module) == expected
    assert dimension(module, probes(module[0].in_channels, 4)) == expected


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(4, 6, 3), 4 * 6 * 9 + 6),
        (nn.Conv2d(4, 6, (1, 5), groups=2, bias=False), 2 * 6 * 5),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), 4 * 3 * 9 + 6),
        (nn.Linear(5, 3), 18),
        (nn.BatchNorm2d(7), 14),
        (nn.LSTM(3, 4), 4 * 4 * (3 + 4 + 2)),
        (nn.ReLU(), 0),
        (nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 5), nn.Linear(5, 4)), 2 * (5 + 4 - 2) + 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_closed_forms(module, expected):
    assert degrees_of_freedom(module) == expected
    if not isinstance(module, (nn.LSTM, nn.ReLU)):
        assert degrees_of_freedom(module.to("meta")) == expected


@pytest.mark.parametrize("name", ["repvgg", "acnet", "dbb", "expandnet", "doconv", "mobileone"])
def test_a_block_reaches_its_convolution_and_no_more(name):
    block = build(name, 2, 3, 4, 3, padding=1, bias=True) if name != "repvgg" else build(name, 2, 4, 4, 3, padding=1)
    plain = nn.Conv2d(block.in_channels, 4, 3, padding=1)
    assert degrees_of_freedom(block) == degrees_of_freedom(plain) < sum(p.numel() for p in block.parameters())
    assert dimension(block, probes(block.in_channels, 4)) == degrees_of_freedom(block)


def test_ranks_by_construction():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    assert kernel_rank(random(8, 3, 3, 3)) == KernelRank(8, 8, 8, 8)
    low = (random(8, 2) @ random(2, 27)).reshape(8, 3, 3, 3)
    assert kernel_rank(low) == KernelRank(2, 8, 2, 8)
    separable = random(8, 3, 1, 1) * random(1, 3, 3, 3)
    assert kernel_rank(separable) == KernelRank(3, 8, 1, 8)
    grouped = torch.cat([(random(4, 1) @ random(1, 18)).reshape(4, 2, 3, 3), random(4, 2, 3, 3)])
    assert kernel_rank(grouped, groups=2) == KernelRank(1 + 4, 8, 4, 4)
    assert kernel_rank(random(6, 4)) == KernelRank(4, 4, 1, 1)
    assert kernel_rank(torch.zeros(4, 3, 3, 3)) == KernelRank(0, 4, 0, 4)


def test_the_tolerance_is_that_of_the_weights_precision():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(16, 2, generator=generator).double() @ torch.randn(2, 36, generator=generator).double()
    noisy = low + 1e-9 * torch.randn(16, 36, generator=generator)
    assert kernel_rank(noisy.reshape(16, 4, 3, 3)).rows == 16
    assert kernel_rank(noisy.float().reshape(16, 4, 3, 3)).rows == 2
    assert kernel_rank(low.reshape(16, 4, 3, 3)).rows == 2


def test_no_numbers_no_rank():
    assert kernel_rank(torch.empty(8, 3, 3, 3, device="meta")) is None


@pytest.mark.parametrize(("shape", "groups"), [((8, 3, 3, 3), 3), ((8,), 1)])
def test_groups_that_do_not_divide(shape, groups):
    with pytest.raises(InvalidArgument, match="a kernel's ranks are per group of its rows"):
        kernel_rank(torch.ones(shape), groups)
