"""What takes the place of a whole call."""

from __future__ import annotations

from typing import Any

from torch import nn

from convfold.graph.program import Linear
from convfold.plan.emission.border_bias import Bordered
from convfold.plan.emission.change import Change
from convfold.plan.emission.outcome import Outcome
from convfold.plan.emission.parts import Builder
from convfold.plan.emission.sums import Part, conv_dims, pads_apart

__all__ = ["replacement"]

_ZERO_PADS: dict[int, Any] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}


def replacement(
    outcome: Outcome, change: Change, builder: Builder, training: bool, made: dict[int, list[tuple[str, Part]]]
) -> nn.Module:
    """The convolution that takes the place of a call; in a Sequential with a padding or a bias map that it needs.

    What was built is added to `made`: for the value, each part with its path.
    """
    path, value = outcome.call.path, outcome.value
    node = change.after.nodes[value]
    assert isinstance(node, Linear)
    term, rank, mapped = node.terms[0], len(change.after.values[value].shape), node.mapped
    padding = change.padding(value)
    if padding is not None and padding.value not in change.placed[outcome.call.number]:
        padding = None
    dims, shift = conv_dims(term.map, rank) or 0, None if mapped else node.shift
    parts = [Part("conv", value, term, shift, term.map.axis, dims, padding)]
    if mapped:
        parts.append(Part("border", value, None, node.shift, node.axis))
    built = builder.build(parts, training)
    first = 0
    if pads_apart(term.map):
        pads = [side for axis in reversed(term.map.window) for side in (axis.lo, axis.hi)]
        built, first = [_ZERO_PADS[len(term.map.window)](tuple(pads)), *built], 1
    alone = len(built) == 1
    for index, part in enumerate(parts, first):
        at = path if alone else f"{path}.{index}" if path else str(index)
        made.setdefault(value, []).append((at, part))
    if alone:
        return built[0]  # type: ignore[no-any-return]
    stepped = mapped and built[-1].borders is None
    return (Bordered if stepped else nn.Sequential)(*built).train(training)
