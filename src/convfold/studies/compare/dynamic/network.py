"""The backbone of ``convfold compare dynamic``: a small ResNet for 8x8 images, in any kind of convolution.

A factory per kind, so that ``convfold correlate convfold.studies.compare.dynamic.network:condconv`` finds it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from convfold.dynamic import DynamicLayer, Router
from convfold.dynamic.networks import resnet
from convfold.dynamic.starting import centred_noise

__all__ = [
    "APART",
    "EXPERTS",
    "WIDTH",
    "build",
    "condconv",
    "dynamicconv",
    "dynet",
    "se",
    "started",
    "static",
    "uniform",
    "wide",
]

EXPERTS = 4
WIDTH = 8
# Deviation of an expert from the static kernel it starts at, over that kernel's own: as far apart as drawn anew.
APART = 1.0


def build(kind: str, width: int = WIDTH) -> nn.Module:
    """(N, 1, 8, 8) -> (N, 10): a stem, a residual block at 8x8 and one at 4x4, mean over the map, classifier.

    Every kind mixes the layers that its paper mixes, each with `EXPERTS` experts; see `convfold.dynamic.networks`.
    Raises UnknownName for a kind that does not exist.
    """
    return resnet(
        10,
        kind,
        num_experts=EXPERTS,
        in_channels=1,
        stem_channels=width,
        depths=(1, 1),
        channels=(width, 2 * width),
        small=True,
    )


def started(kind: str, seed: int, width: int = WIDTH) -> nn.Module:
    """The network of that kind and seed, near what the static network of the same seed computes where it can be.

    All that two kinds share starts equal. Experts are scattered around the static kernel, which is their mixture
    under a router without preference; routers are drawn as published, so that they prefer a little. (From zero, where
    the start would be exact, they hardly learn to look at the input in so few steps.) The gate of "se" scales by about
    1/2 at its start, as published, and "wide" has more channels: these two start elsewhere.
    """
    torch.manual_seed(seed)
    static = build("static", width)
    if kind == "static":
        return static
    torch.manual_seed(seed)
    network = build(kind, width)
    if kind == "wide":
        return network
    kernels = dict(static.named_parameters())
    mixed = {path: module for path, module in network.named_modules() if isinstance(module, DynamicLayer)}
    shared = {name: value for name, value in static.state_dict().items() if name.rpartition(".")[0] not in mixed}
    network.load_state_dict(shared, strict=False)
    for path, layer in mixed.items():
        for name, experts in (("weight", layer.weight), ("bias", layer.bias)):
            if experts is not None:
                _scatter(experts, kernels[f"{path}.{name}"].detach(), _neutral(layer))
    return network


def _neutral(layer: DynamicLayer) -> float:
    """What a router without preference says; a shared one is a sigmoid."""
    return layer.router.neutral if isinstance(layer.router, Router) else 0.5


def _scatter(experts: nn.Parameter, around: torch.Tensor, neutral: float) -> None:
    count = len(experts)
    with torch.no_grad():
        experts.copy_(around / (count * neutral) + centred_noise(around, count, APART))


static = partial(build, "static")
uniform = partial(build, "uniform")
se = partial(build, "se")
wide = partial(build, "wide")
condconv = partial(build, "condconv")
dynamicconv = partial(build, "dynamicconv")
dynet = partial(build, "dynet")
