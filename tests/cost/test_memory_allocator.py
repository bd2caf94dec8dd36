"""The counted peak against torch's allocator; the full comparison is ``python -m tests.memory_truth``."""

import pytest
import torch
from tests.memory_truth import CEILING, UNet, counted_forward, real_forward, real_step
from torch import nn
from torch.backends import mkldnn

from convfold.cost.training import training_step
from support.allocator import allocator_peak


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.Hardswish(),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x):
        return x + self.body(x)


MODELS = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=2, dilation=2),
        nn.LeakyReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ),
    "residual": lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), Residual(16), Residual(16)),
    "unet": lambda: UNet(16),
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def peaks(name, kind):
    model, x = MODELS[name](), torch.randn(2, 3, 64, 64)
    run = (real_forward if kind == "forward" else real_step)(model, x)
    run()
    model.zero_grad(set_to_none=True)
    real = allocator_peak(run)
    return (counted_forward(model, x) if kind == "forward" else training_step(model, x)).peak_bytes, real


@pytest.mark.parametrize("kind", ["forward", "step"])
@pytest.mark.parametrize("name", MODELS)
def test_peak_of_the_allocator(name, kind):
    told, real = peaks(name, kind)
    assert told == pytest.approx(real, rel=CEILING)


@pytest.mark.parametrize("name", ["plain", "unet"])
def test_peak_of_the_allocator_without_onednn(name):
    with mkldnn.flags(enabled=False):
        told, real = peaks(name, "forward")
    assert told == pytest.approx(real, rel=CEILING)


def test_what_convolutions_take_for_themselves_is_seen():
    model, x = nn.Conv2d(32, 32, 5, padding=2).double(), torch.randn(1, 32, 24, 24, dtype=torch.float64)
    real = allocator_peak(real_forward(model, x))
    assert counted_forward(model, x).peak_bytes == real > 10 * x.nbytes


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, groups=4),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(64, 128, 1, stride=2),
        nn.Conv2d(64, 32, 5, padding=2, dtype=torch.float64),
    ],
    ids=["dense", "grouped", "depthwise", "strided 1x1", "float64"],
)
@pytest.mark.parametrize("kind", ["forward", "step"])
def test_one_convolution(conv, kind):
    # A small map, so that the rewritten weight is no small part of it; two layers, so that both gradients are made.
    first = nn.Conv2d(3, 64, 1, dtype=conv.weight.dtype)
    model, x = nn.Sequential(first, conv), torch.randn(2, 3, 16, 16, dtype=conv.weight.dtype)
    run = (real_forward if kind == "forward" else real_step)(model, x)
    run()
    model.zero_grad(set_to_none=True)
    real = allocator_peak(run)
    told = counted_forward(model, x) if kind == "forward" else training_step(model, x)
    assert told.peak_bytes == pytest.approx(real, rel=CEILING)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", MODELS)
def test_peak_of_the_cuda_allocator(name):
    model, x = MODELS[name]().cuda(), torch.randn(2, 3, 64, 64, device="cuda")
    run = real_forward(model, x)
    run()
    assert counted_forward(model, x).peak_bytes == pytest.approx(allocator_peak(run, "cuda"), rel=CEILING)
