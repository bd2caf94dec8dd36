"""Where an arm starts: plain networks of several initial scales, and blocks put in place of convolutions."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convfold.blocks import Block, find
from convfold.studies.compare.blocks.arms import Arm
from convfold.train import scale_gammas
from convfold.transform import expand

__all__ = ["deviations", "layer_ends", "started"]

# torch draws kernels of variance 1 / (3 fan-in); He et al. (arXiv 1502.01852) ask for 2 / fan-in before a ReLU.
_HE = math.sqrt(6)
_ROOT = math.sqrt(3)


def started(arm: Arm, plain: Callable[[], nn.Module], images: Tensor, seed: int) -> nn.Module:
    """The network of `arm` and `seed` before training; `plain` builds the plain one from the global generator.

    All arms of a seed have the plain network's own draws in common. `images` are what a scale is measured on.
    """
    torch.manual_seed(seed)
    network = plain()
    if arm.start == "scale":
        matched = _own(copy.deepcopy(network), arm.block, images)
        return _rescaled(network, deviations(matched, layer_ends(network), images), images)
    if arm.start == "own":
        return _own(network, arm.block, images)
    if arm.start == "equal":
        at = _he(network) if arm.reference.endswith("he") else network
        return expand(at, arm.block, example_inputs=images[:2], **_options(at, arm.block))
    if arm.start == "sqrt3":
        return scale_gammas(network, _ROOT)
    if arm.start == "he":
        return _he(network)
    return _dirac(network) if arm.start == "dirac" else network


def layer_ends(plain: nn.Module) -> dict[str, str]:
    """Of each convolution of a plain network, by path, where its layer ends: the batch norm after it, or itself."""
    leaves = [(path, module) for path, module in plain.named_modules() if not list(module.children())]
    ends = {}
    for (path, module), (after, reader) in zip(leaves, [*leaves[1:], ("", nn.Identity())], strict=True):
        if isinstance(module, nn.Conv2d):
            ends[path] = after if isinstance(reader, _BatchNorm) else path
    return ends


def deviations(network: nn.Module, ends: Mapping[str, str], images: Tensor) -> dict[str, float]:
    """By convolution ``sqrt(mean_c var(y_c))`` of the map y at the end of its layer, over images and positions.

    In training mode, as the first step sees it; the network is left as it was.
    """
    probe = copy.deepcopy(network).train()
    seen: dict[str, float] = {}
    for path, end in ends.items():

        def note(module: nn.Module, args: Any, out: Tensor, path: str = path) -> None:
            seen[path] = float(out.var((0, 2, 3), correction=0).mean().sqrt())

        probe.get_submodule(end).register_forward_hook(note)
    with torch.no_grad():
        probe(images)
    return seen


def _rescaled(network: nn.Module, wanted: Mapping[str, float], images: Tensor) -> nn.Module:
    """Layer by layer, gamma or else the convolution multiplied so that deviations become those `wanted`."""
    ends = layer_ends(network)
    with torch.no_grad():
        for path, end in ends.items():
            factor = wanted[path] / deviations(network, ends, images)[path]
            for parameter in network.get_submodule(end).parameters(recurse=False):
                parameter.mul_(factor)
    return network


def _he(network: nn.Module) -> nn.Module:
    """torch's own draws at He's variance, without bias, in every convolution that an activation reads."""
    leaves = [module for module in network.modules() if not list(module.children())]
    with torch.no_grad():
        for module, reader in pairwise(leaves):
            if isinstance(module, nn.Conv2d) and isinstance(reader, (nn.ReLU, nn.PReLU)):
                module.weight.mul_(_HE)
                if module.bias is not None:
                    module.bias.zero_()
    return network


def _dirac(network: nn.Module) -> nn.Module:
    """The identity added to torch's own draws, wherever a convolution keeps its map's shape (arXiv 1706.00388)."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels and module.stride == (1, 1):
                module.weight.add_(nn.init.dirac_(torch.empty_like(module.weight)))
    return network


def _own(network: nn.Module, block: str, images: Tensor) -> nn.Module:
    """The block in place of every convolution, with the initialisation it was published with."""
    options = _options(network, block)
    wide = expand(network, block, example_inputs=images[:2], **options)
    for path, module in list(wide.named_modules()):
        if isinstance(module, Block):
            wide.set_submodule(path, type(module).in_place_of(module, module._bias, {}, **options))
    return wide


def _options(network: nn.Module, block: str) -> dict[str, Any]:
    """Where plain has no batch normalisation no arm has: sums get a factor per channel in its place."""
    takes = "norm" in inspect.signature(find(block, 2)).parameters
    return {} if not takes or any(isinstance(m, _BatchNorm) for m in network.modules()) else {"norm": "scale"}
