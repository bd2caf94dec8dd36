"""A small CNN whose convolutions are linear chains: of one function class, and started at one function."""

from __future__ import annotations

import torch
from torch import nn

from convfold.errors import InvalidArgument
from convfold.studies.compare.depth.chain import balanced
from convfold.transform import expand

__all__ = ["ARMS", "chain", "network"]

EXPANDED = "expandnet"
# With ReLU all units of a layer may die at once at the rates that are best: then it is luck that is measured.
SLOPE = 0.1
ARMS: dict[str, str] = {
    "depth1": "depth 1",
    "depth2": "depth 2",
    "depth3": "depth 3",
    "depth4": "depth 4",
    EXPANDED: "ExpandNet, identity start",
}


def _plain(seed: int, width: int) -> nn.Sequential:
    """Three 3x3 convolutions, drawn after He. No batch normalisation: behind one a kernel's norm has no effect."""
    torch.manual_seed(seed)
    convs = [
        nn.Conv2d(1, width, 3, padding=1),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
    ]
    layers: list[nn.Module] = []
    for conv in convs:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10))


def chain(conv: nn.Conv2d, depth: int) -> nn.Module:
    """`conv` as a balanced chain: its k x k kernel into min(C_out, C_in k^2) channels, then `depth` - 1 of 1x1.

    As matrices (C_out, C_in k^2) over patches the factors are those of `compare_depth_chain.balanced`, so the theory
    of linear chains holds for the kernel unchanged. The bias stands on the last. Raises InvalidArgument for groups,
    whose patches are not one matrix.
    """
    if conv.groups != 1:
        raise InvalidArgument("a grouped kernel is not one matrix", where="chain", got=f"groups={conv.groups}")
    if depth == 1:
        return conv
    first, *rest = balanced(conv.weight.detach().double().flatten(1), depth)
    opening = nn.Conv2d(
        conv.in_channels,
        len(first),
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=False,
        padding_mode=conv.padding_mode,
    )
    links = [nn.Conv2d(factor.shape[1], factor.shape[0], 1, bias=False) for factor in rest]
    if conv.bias is not None:
        links[-1].bias = nn.Parameter(conv.bias.detach().clone())
    with torch.no_grad():
        opening.weight.copy_(first.reshape(opening.weight.shape))
        for link, factor in zip(links, rest, strict=True):
            link.weight.copy_(factor[..., None, None])
    return nn.Sequential(opening, *links)


def network(arm: str, seed: int, width: int) -> nn.Module:
    """The network of an arm; of one seed all compute the same function.

    "expandnet" is `convfold.expand`'s 1x1, 3x3, 1x1 without widening: depth 3 of the same function class, started at
    identities around the whole kernel, which is not balanced.
    """
    plain = _plain(seed, width)
    if arm == EXPANDED:
        return expand(plain, "expandnet", expansion=1, where=lambda _, module: isinstance(module, nn.Conv2d))
    depth = int(arm.removeprefix("depth"))
    return nn.Sequential(*(chain(layer, depth) if isinstance(layer, nn.Conv2d) else layer for layer in plain))
