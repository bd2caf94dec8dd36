"""Padding of other modes than zeros, which torch's convolutions execute themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convfold.graph.captured import Step
from convfold.graph.program import Linear, Program, Spatial

__all__ = ["Padding", "padding_of"]

_MODES = ("reflect", "replicate", "circular")


@dataclass(frozen=True)
class Padding:
    """``F.pad(source, pads, mode)``, as `value`; `pads` the same on both sides, for each axis."""

    value: int
    source: int
    mode: str
    pads: tuple[int, ...]


def padding_of(
    program: Program, steps: Mapping[int, Step], readers: Mapping[int, set[int]], value: int
) -> Padding | None:
    """The padding that one convolution, `value`, could execute itself; None where it has none of its own."""
    node = program.nodes.get(value)
    if not isinstance(node, Linear) or len(node.terms) != 1 or node.terms[0].map.kind != "conv" or node.mapped:
        return None
    m, padded = node.terms[0].map, node.terms[0].source
    pad = program.nodes.get(padded)
    if not isinstance(pad, Spatial) or pad.like != padded or padded not in steps or padded in program.outputs:
        return None
    step, rank = steps[padded], len(program.values[padded].shape)
    if str(step.target.__name__).split(".")[0] != "pad" or len(step.args) < 3 or readers[padded] != {value}:
        return None
    pads, mode = step.args[1], step.args[2]
    if mode not in _MODES or any(type(side) is not int for side in pads):
        return None
    dims = len(m.window)
    if len(pads) != 2 * dims or m.axis is None or rank != m.axis + 1 + dims or m.axis > 1 or not 1 <= dims <= 3:
        return None
    sides = tuple(pads[2 * dims - 2 * axis - 2 : 2 * dims - 2 * axis] for axis in range(dims))
    plain = all(lo == hi >= 0 for lo, hi in sides) and all(axis.lo == axis.hi == 0 for axis in m.window)
    return Padding(padded, pad.source, mode, tuple(lo for lo, _ in sides)) if plain else None
