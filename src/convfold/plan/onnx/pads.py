"""Pads of zeros around axes that a transposition then puts behind the channels."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from convfold.geometry import Axis
from convfold.graph.maps import Given, Map
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import opset_of

__all__ = ["pad_behind"]

# Since then the numbers of a Pad are inputs.
_INPUTS = 11


def pad_behind(captured: CapturedFile, node: ir.Node, order: Sequence[int], channels: int) -> Map | None:
    """The pad `node` as a window behind `channels`, where axis ``order[i]`` becomes axis i; None for any other."""
    rank = len(order)
    pads = _zeros(captured, node, rank)
    if pads is None or not 3 <= rank <= 5:
        return None
    window = tuple(Axis(1, 1, 1, pads[axis], pads[rank + axis]) for axis in order[2:])
    if any(pads[axis] or pads[rank + axis] for axis in order[:2]):
        return None
    return Map("pool", channels, channels, 1, window, channels, Given(("average", 1)))


def _zeros(captured: CapturedFile, node: ir.Node, rank: int) -> list[int] | None:
    """What is added before and behind each axis, if it is a known number of zeros."""
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if mode != "constant":
        return None
    if opset_of(captured.model.opset_imports) < _INPUTS:
        value = node.attributes["value"].as_float() if "value" in node.attributes else 0.0
        return list(node.attributes["pads"].as_ints()) if value == 0 else None
    given = [value.name for value in node.inputs if value is not None and value.name]
    if len(given) < 2 or len(node.inputs) > 3 or any(name in captured.names.values() for name in given[1:]):
        return None
    if any(name in captured.known for name in given[1:]):
        return None
    numbers = [captured.tensor(name, None).reshape(-1).tolist() for name in given[1:]]
    return list(numbers[0]) if len(numbers[0]) == 2 * rank and not any(numbers[1:2] and numbers[1]) else None
