"""What a trained network's routers and channels do on the test images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.dynamic import Router, SharedRouter
from convfold.studies.correlate import correlate

__all__ = ["channel_correlations", "routing"]

_LAYERS = "*.chain.convs.?"


def channel_correlations(network: nn.Module, images: Tensor) -> dict[str, float | None]:
    """Mean |r| between the output channels of each 3x3 convolution of the blocks."""
    return {row.layer: row.mean_abs for row in correlate(network, images, _LAYERS).rows}


def routing(network: nn.Module, images: Tensor, both_ways: bool) -> dict[str, float] | None:
    """How far the coefficients depend on the image; None for a network without routers.

    `spread`: their deviation over images over their mean, the mean over coefficients and routers. `inversion`, where
    the second half of `images` is the first one inverted: the share of their variance over images that lies between
    the halves, the mean over coefficients that vary; 1 when only the inversion is seen, 0 when it is not.
    """
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, out: Tensor | tuple[Tensor, ...]) -> None:
        seen.extend(pi.flatten(1).double() for pi in (out if isinstance(out, tuple) else (out,)))

    routers = [module for module in network.modules() if isinstance(module, (Router, SharedRouter))]
    hooks = [module.register_forward_hook(note) for module in routers]
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        return None
    spreads = [(pi.std(0, correction=0) / pi.mean(0).abs().clamp_min(1e-12)).mean() for pi in seen]
    found = {"spread": float(torch.stack(spreads).mean())}
    if both_ways:
        found["inversion"] = _between(torch.cat(seen, 1))
    return found


def _between(coefficients: Tensor) -> float:
    """The share of each column's variance that lies between its first and its second half, the mean over columns."""
    first, second = coefficients.chunk(2)
    total = coefficients.var(0, correction=0)
    varies = total > 1e-18
    if not bool(varies.any()):
        return 0.0
    between = ((first.mean(0) - second.mean(0)) / 2).square()
    return float((between[varies] / total[varies]).mean())
