"""DBB in training: what lies around the intermediate map is its response to zero under the batch's own statistics."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blocks.cases import normal
from blocks.contract import same_values
from convfold import blocks
from support.make import randomise

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def normalised(x: Tensor, gamma: Tensor, beta: Tensor, eps: float, silent: bool = False) -> tuple[Tensor, Tensor]:
    """Batch normalisation in training by hand: the map, and what a value of zero would have become."""
    view = (1, -1, *[1] * (x.dim() - 2))
    axes = [0, *range(2, x.dim())]
    mean = x.mean(axes, keepdim=True)
    deviation = ((x - mean) ** 2).mean(axes, keepdim=True).add(eps).sqrt()
    zero = (0 - mean) / deviation * gamma.reshape(view) + beta.reshape(view)
    return (x - mean) / deviation * gamma.reshape(view) + beta.reshape(view), zero


def framed(x: Tensor, value: Tensor, pads: list[int]) -> Tensor:
    """`x` written into a map that holds `value` everywhere."""
    sizes = [n + 2 * p for n, p in zip(x.shape[2:], pads, strict=True)]
    frame = value.expand(x.shape[0], -1, *sizes).clone()
    frame[(slice(None), slice(None), *(slice(p, p + n) for p, n in zip(pads, x.shape[2:], strict=True)))] = x
    return frame


def reference(module: Any, p: dict[str, Tensor], x: Tensor, pads: list[int]) -> Tensor:
    """The whole of DBB with its inner norms in training, from its parameters `p`."""
    dims, groups, eps = x.dim() - 2, module.groups, module.dense_norm.eps
    conv, ones = _CONV[dims], [1] * (x.dim() - 2)

    def norm(y: Tensor, name: str) -> Tensor:
        if not module.get_submodule(name).training:
            frozen, view = module.get_submodule(name), (1, -1, *ones)
            y = (y - frozen.running_mean.reshape(view)) / (frozen.running_var + eps).sqrt().reshape(view)
            return y * p[f"{name}.weight"].reshape(view) + p[f"{name}.bias"].reshape(view)
        return normalised(y, p[f"{name}.weight"], p[f"{name}.bias"], eps)[0]

    def stage(weight: Tensor, name: str) -> Tensor:
        y = conv(x, weight, groups=groups)
        inside, zero = normalised(y, p[f"{name}.weight"], p[f"{name}.bias"], eps)
        return framed(inside, zero, pads)

    width = x.shape[1] // groups
    eye = torch.cat([torch.eye(width, dtype=x.dtype)] * groups)
    y = norm(conv(x, p["dense.weight"], padding=pads, groups=groups), "dense_norm")
    # A 1x1 at the centre of a k x k window with this padding sees the input without its padding.
    crop = [(k - 1) // 2 - q for k, q in zip(module.kernel_size, pads, strict=True)]
    assert all(c == 0 for c in crop)
    y = y + norm(conv(x, p["point.weight"], groups=groups), "point_norm")
    squeezed = stage((p["squeeze.weight"] + eye).reshape(*eye.shape, *ones), "squeeze_norm")
    y = y + norm(conv(squeezed, p["expand.weight"], groups=groups), "expand_norm")
    pooled = stage(p["pool_point.weight"], "pool_point_norm")
    taps = torch.ones(pooled.shape[1], 1, *module.kernel_size, dtype=x.dtype)
    y = y + norm(conv(pooled, taps / taps[0].numel(), groups=pooled.shape[1]), "pool_norm")
    return y


def border_only(y: Tensor) -> Tensor:
    """A loss that only positions on the border ring enter."""
    weights = normal(*y.shape, seed=8)
    weights[(slice(None), slice(None), *[slice(1, -1)] * (y.dim() - 2))] = 0
    return (y * weights).sum()


@pytest.mark.parametrize(
    ("dims", "kernel", "groups"), [(1, (3,), 1), (2, (3, 3), 1), (2, (3, 5), 2), (2, (1, 3), 1), (3, (3, 1, 3), 1)]
)
@pytest.mark.parametrize("frozen", [False, True])
def test_training_border_values_and_gradients(dims: int, kernel: tuple[int, ...], groups: int, frozen: bool) -> None:
    pads = [k // 2 for k in kernel]
    module = blocks.build("dbb", dims, 4, 6, kernel, padding=tuple(pads), groups=groups, bias=False).double()
    randomise(module, torch.Generator().manual_seed(2)).train()
    # Behind a norm that trains, the shift of an inner norm has no gradient: with the outer ones frozen it has.
    outer = (module.dense_norm, module.point_norm, module.expand_norm, module.pool_norm)
    for its_norm in outer if frozen else ():
        its_norm.eval()
    x = normal(3, 4, *[6] * dims) + 0.5
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    # What is outside must matter: an input whose mean is not zero gives a response to zero that is none.
    truth = reference(module, parameters, x, pads)
    mask = torch.ones(truth.shape[2:], dtype=torch.bool)
    mask[tuple(slice(1, -1) for _ in pads)] = False
    value = module(x)
    same_values(value, truth, mask)
    border_only(value).backward()
    border_only(truth).backward()
    largest = max(p.grad.abs().max() for p in parameters.values())
    for name, parameter in module.named_parameters():
        expected = parameters[name].grad
        assert expected is not None
        floor = expected.abs().max().clamp_min(1e-4 * largest)
        assert (parameter.grad - expected).abs().max() <= 1e-10 * floor, name
    touched = [f"{name}.{leaf}" for name in ("squeeze_norm", "pool_point_norm") for leaf in ("weight", "bias")]
    for name in touched:
        assert (parameters[name].grad.abs().max() > 1e-8 * largest) == (frozen or name.endswith("weight"))


def test_padding_with_running_statistics_would_be_seen() -> None:
    """The published approximation, and padding the input first, both differ: the reference above can tell."""
    module = blocks.DBBConv2d(4, 6, 3, padding=1, bias=False, dtype=torch.float64)
    randomise(module, torch.Generator().manual_seed(2)).train()
    x = normal(3, 4, 6, 6) + 0.5
    parameters = dict(module.named_parameters())
    truth = reference(module, parameters, x, [1, 1])
    norm = module.squeeze_norm
    running = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    y = F.conv2d(x, (module.squeeze.weight + torch.eye(4).double()).reshape(4, 4, 1, 1))
    inside, zero = normalised(y, norm.weight, norm.bias, norm.eps)
    assert (zero.reshape(-1) - running).abs().max() > 0.1
    first = F.pad(x, (1, 1, 1, 1))
    ringed, _ = normalised(
        F.conv2d(first, (module.squeeze.weight + torch.eye(4).double()).reshape(4, 4, 1, 1)),
        norm.weight,
        norm.bias,
        norm.eps,
    )
    assert (ringed[..., 1:-1, 1:-1] - inside).abs().max() > 0.1
    assert truth.shape == (3, 6, 6, 6)


def test_the_ring_does_not_enter_the_running_statistics() -> None:
    module = blocks.DBBConv2d(2, 2, 5, padding=2, bias=False, dtype=torch.float64).train()
    x = normal(4, 2, 5, 5) + 3
    module(x)
    # The first 1x1 starts as the identity: its norm sees the input, and nothing of the zeros around it.
    torch.testing.assert_close(module.squeeze_norm.running_mean, 0.1 * x.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    assert isinstance(module.squeeze_norm, nn.BatchNorm2d)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_paddings_pad_the_intermediate_map(mode: str) -> None:
    module = blocks.DBBConv2d(3, 4, 3, padding=1, padding_mode=mode, bias=False, dtype=torch.float64).train()
    randomise(module, torch.Generator().manual_seed(1))
    x = normal(2, 3, 5, 6)
    norm = module.squeeze_norm
    y = F.conv2d(x, (module.squeeze.weight + torch.eye(3).double()).reshape(3, 3, 1, 1))
    inside, _ = normalised(y, norm.weight, norm.bias, norm.eps)
    branch = F.conv2d(F.pad(inside, (1, 1, 1, 1), mode=mode), module.expand.weight)
    expected = normalised(branch, module.expand_norm.weight, module.expand_norm.bias, norm.eps)[0]
    with torch.no_grad():
        for other in (module.dense_norm, module.point_norm, module.pool_norm):
            other.weight.zero_()
            other.bias.zero_()
    same_values(module(x), expected)
