"""The kernel reading is differentiable: its gradients are those of feature mode, and both modes are traceable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold.algebra import AvgPool, Concat, Conv, Norm, Pad, Select, apply, kernel, op
from convfold.geometry import Axis
from support.make import Make, randomise

BATCHNORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Everything(nn.Module):
    """Every operator and law in one expression, rebuilt from live parameters at each call."""

    def __init__(self, dims: int, mode: str, double: bool = True) -> None:
        super().__init__()
        placement = {"dtype": torch.float64 if double else torch.float32}
        conv, norm = CONV[dims], BATCHNORM[dims]
        self.dims, self.mode = dims, mode
        self.dense = conv(4, 4, 3, padding=1, bias=False, groups=2, **placement)
        self.point = conv(4, 4, 1, groups=4, **placement)
        self.squeeze = conv(4, 6, 1, bias=False, **placement)
        self.expand = conv(6, 4, 3, padding=2, dilation=2, groups=2, **placement)
        self.last = conv(4, 5, 2, stride=2, **placement)
        self.norms = nn.ModuleList(norm(4, **placement) for _ in range(4))
        randomise(self, torch.Generator().manual_seed(0)).eval()

    def op(self):
        dims = self.dims
        around = ((1, 1),) * dims
        first, second = Select.block(0, 2, 4, dims), Select.block(2, 4, 4, dims)
        half = Conv(self.dense.weight[:2], None, op(self.dense).window)
        branches = (
            (op(self.dense) >> Norm(self.norms[0], dims))
            + (op(self.point) >> op(self.norms[1]))
            + op(self.norms[2])
            + (op(self.squeeze) >> op(self.expand))
            + (Pad(4, around) >> AvgPool(4, (Axis(3),) * dims))
            + (Select.shuffle(4, 2, dims) >> op(self.point))
            + 0.5 * Concat((first >> half, second))
            + (op(self.point) >> Pad(4, around, value=self.point.bias) >> AvgPool(4, (Axis(3),) * dims))
        )
        return branches >> op(self.norms[3]) >> op(self.last) >> Select((3, 1, 2, 2, 0), 5, dims)

    def forward(self, x):
        expression = self.op()
        return apply(kernel(expression), x) if self.mode == "kernel" else apply(expression, x)


def run(module, x):
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = module(x)
    # A random weighting: a plain sum has no gradient through many of the taps.
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_values_and_gradients_of_both_modes_agree(dims):
    x = Make(2).tensor(2, 4, *(7, 6, 5)[:dims])
    feature, composed = (run(Everything(dims, mode), x) for mode in ("feature", "kernel"))
    for a, b in zip(feature, composed, strict=True):
        assert (a - b).abs().max() <= 1e-10 * max(1.0, a.abs().max().item())
        assert a.abs().max() > 0


@pytest.mark.parametrize("transform", ["transposed after", "transposed before"])
def test_gradients_through_a_transposed_convolution(transform):
    make = Make(3)
    conv = make.transposed(4, 6, (Axis(3, 2, 1, 1, 0),) * 2, 2)
    point = make.conv(6, 4, (Axis(),) * 2) if transform.endswith("after") else make.conv(2, 4, (Axis(),) * 2, 2, False)
    norm = make.norm(6 if transform.endswith("before") else 4, 2)
    leaves = [conv.weight, conv.bias, point.weight, *norm.module.parameters()]
    for leaf in leaves:
        leaf.requires_grad_()
    expression = (conv >> point if transform.endswith("after") else point >> conv) >> norm
    x = make.tensor(2, expression.in_channels, 4, 3)
    grads = []
    for value in (apply(expression, x), apply(kernel(expression), x)):
        weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        grads.append(torch.autograd.grad((value * weights).sum(), leaves))
    for a, b in zip(*grads, strict=True):
        assert (a - b).abs().max() <= 1e-10 * max(1.0, a.abs().max().item())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", ["feature", "kernel"])
def test_compile_traces_the_expression_whole_forward_and_backward(mode):
    module, x = Everything(2, mode), Make(4).tensor(2, 4, 7, 6)
    expected = run(module, x)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for a, b in zip(expected, run(compiled, x), strict=True):
        assert (a - b).abs().max() <= 1e-10 * max(1.0, a.abs().max().item())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", ["feature", "kernel"])
def test_export_traces_the_expression(mode):
    module, x = Everything(2, mode), Make(5).tensor(2, 4, 7, 6)
    exported = torch.export.export(module, (x,)).module()
    assert (exported(x) - module(x)).abs().max() <= 1e-10
    other = Make(6).tensor(2, 4, 7, 6)
    assert (exported(other) - module(other)).abs().max() <= 1e-10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_step_of_feature_mode_is_traced_too():
    module, x = Everything(2, "feature").train(), Make(7).tensor(2, 4, 7, 6)
    expected = run(module, x)
    torch._dynamo.reset()
    twin = Everything(2, "feature").train()
    for a, b in zip(expected, run(torch.compile(twin, backend="aot_eager", fullgraph=True), x), strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1.0, a.abs().max().item())
    assert (module.norms[0].running_mean - twin.norms[0].running_mean).abs().max() < 1e-12
