"""What a captured ONNX file is made of: the neutral program, and what is needed to write nodes again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from torch import Tensor

from convfold.errors import Refusal
from convfold.graph.program import Program
from convfold.graph.sizes import Pair

__all__ = ["CapturedFile"]


@dataclass
class CapturedFile:
    """An ONNX model as a program. The model itself is not changed.

    Only tensors that the network computes are values: what follows from sizes alone (Shape, Gather, Concat before a
    Reshape) and what is constant are not. A node of several results is a value of its own (opaque, no name) whose
    results are read off it by opaque values without operators; the parts of a Split are selections of its input.

    * `names`: the name in the file of the tensor that each value is; none for a node of several results;
    * `nodes`: the node that computes each value (inputs of the program have none);
    * `sizes`: each axis of each value, at the example sizes and at others;
    * `tensor`: ``tensor(key, dtype=None)``, the constant of a key: the name of a constant in the file, or what rules
      derive (`convfold.graph.derived`). With a dtype, what is floating point is computed in it;
    * `alive`: values whose size a node reads in a way that no other value's could stand for; they stay computed;
    * `open`: whether sizes behind the channels (heights, widths, lengths) are left open by the file;
    * `example`: the shape of each input at the example sizes, and `elsewhere`: at the other ones;
    * `known`: by the name of its tensor, what a node computes of sizes alone: integers, at both points;
    * `refusals`: what is left alone from the start, and why.
    """

    model: ir.Model
    program: Program
    names: dict[int, str]
    nodes: dict[int, ir.Node]
    sizes: dict[int, tuple[Pair, ...]]
    tensor: Callable[[Hashable, object], Tensor]
    alive: frozenset[int] = frozenset()
    open: bool = False
    example: dict[str, tuple[int, ...]] = field(default_factory=dict)
    elsewhere: dict[str, tuple[int, ...]] = field(default_factory=dict)
    known: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
