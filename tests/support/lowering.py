"""Random layers for lowering, in float64 and from a seed, and what holds for every one that was lowered."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import apply, frozen, magnitude, op
from convfold.transform.lower.layer import LAYERS, lowered_layer, seen_of
from convfold.transform.lower.target import Target

__all__ = ["CEILING", "convolution", "hold", "map_for", "transposed"]

CEILING = 1e-12  # the issue's own, for well-scaled random cases in float64
_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MODES = ("zeros", "zeros", "reflect", "replicate", "circular")


def _channels(draw: random.Random, groups: int | None) -> dict[str, int]:
    groups = draw.choice((1, 1, 2, 3, 4)) if groups is None else groups
    ins, outs = draw.choice((1, 1, 2, 3, 4, 5, 7, 8)), draw.choice((1, 2, 3, 4))
    return {"in_channels": groups * ins, "out_channels": groups * outs, "groups": groups}


def _filled(layer: nn.Module, draw: random.Random) -> nn.Module:
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer.eval()


def convolution(draw: random.Random, **fixed: Any) -> Any:
    """An ``nn.Conv{1,2,3}d`` with everything drawn that is not `fixed`: padding "same" and all modes too."""
    dims = fixed.pop("dims", None) or draw.choice((1, 2, 2, 3))
    most = fixed.pop("most", 3 if dims == 3 else 5)

    def each(*values: int) -> tuple[int, ...]:
        return tuple(draw.choice(values) for _ in range(dims))

    options: dict[str, Any] = {
        **_channels(draw, fixed.pop("groups", None)),
        "kernel_size": each(*range(1, most + 1)),
        "stride": each(1, 1, 2, 3),
        "dilation": each(1, 1, 2, 3),
        "padding": each(0, 1, 2),
        "padding_mode": draw.choice(_MODES),
        "bias": draw.random() < 0.5,
    } | fixed
    if "padding" not in fixed and set(options["stride"]) == {1} and draw.random() < 0.4:
        options["padding"] = "same"
    return _filled(_CONV[dims](**options, dtype=torch.float64), draw)


def transposed(draw: random.Random, **fixed: Any) -> Any:
    """An ``nn.ConvTranspose{1,2,3}d`` with everything drawn that is not `fixed`: output padding too."""
    dims = fixed.pop("dims", None) or draw.choice((1, 2, 2, 3))

    def each(*values: int) -> tuple[int, ...]:
        return tuple(draw.choice(values) for _ in range(dims))

    options: dict[str, Any] = {
        **_channels(draw, fixed.pop("groups", None)),
        "kernel_size": each(1, 2, 3, 4),
        "stride": each(1, 2, 3),
        "dilation": each(1, 1, 2, 3),
        "padding": each(0, 0, 1, 2),
        "bias": draw.random() < 0.5,
    } | fixed
    pairs = zip(options["stride"], options["dilation"], strict=True)
    options["output_padding"] = tuple(draw.randrange(max(pair)) for pair in pairs)
    return _filled(_TRANSPOSED[dims](**options, dtype=torch.float64), draw)


def map_for(layer: Any, draw: random.Random, batch: int = 2) -> Tensor:
    """A random input of odd and even sizes that the window of the layer fits into, and that its mode can pad."""
    dims = layer.weight.dim() - 2
    spans = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    pads = [max(pair) for pair in zip(*[iter(layer._reversed_padding_repeated_twice)] * 2, strict=True)][::-1]
    least = [max(span + 1, 2 * pad + 2, 4) for span, pad in zip(spans, pads or [0] * dims, strict=True)]
    size = [n + draw.randrange(4) for n in least]
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    lead = [batch] if batch else []
    return torch.randn(*lead, layer.in_channels, *size, generator=generator, dtype=torch.float64)


def hold(layer: Any, target: Target, draw: random.Random) -> nn.Module:
    """Lower the layer, and hold it to its word on maps of two sizes, one of them without a batch.

    Elementwise in float64, relative to the sum of the absolute terms; nothing in it breaks the target; gradients reach
    the input as they did, and every weight. Returns what it became.
    """
    samples = [map_for(layer, draw), map_for(layer, draw, batch=0)]
    lowered = lowered_layer(layer, target, [tuple(samples[0].shape)]).module
    for part in lowered.modules():
        assert not isinstance(part, LAYERS) or target.broken(seen_of(part, [])) is None, part
    for x in samples:
        own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected, got = layer(own), lowered(other)
        assert got.shape == expected.shape, (layer, lowered)
        scale = float(apply(magnitude(frozen(op(layer), torch.float64)), x.abs()).detach().abs().max())
        assert float((got - expected).detach().abs().max()) <= CEILING * scale, (layer, lowered)
        probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        expected.backward(probe)
        got.backward(probe)
        assert own.grad is not None
        assert other.grad is not None
        terms = float(own.grad.abs().max()) + scale
        assert float((own.grad - other.grad).abs().max()) <= CEILING * terms, (layer, lowered)
    assert all(p.grad is not None and p.dtype == torch.float64 for p in lowered.parameters())
    return lowered
