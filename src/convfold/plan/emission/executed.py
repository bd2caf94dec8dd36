"""A sum of linear maps, executed in float64 by the statement that a rewritten forward gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.graph.program import Linear, Program
from convfold.graph.weights import Weights
from convfold.plan.emission.built import border, convolution, vector
from convfold.plan.emission.sums import Part, spell_sum

__all__ = ["executed"]


def executed(program: Program, value: int, node: Linear, values: Mapping[int, Tensor], weights: Weights) -> Tensor:
    """`node`, which defines `value`, on `values`: not what it means, but what is emitted for it.

    A bias that a convolution has no place for, or an operand that is forgotten, shows in nothing else.
    """
    names: dict[str, Any] = {"torch": torch, "F": F}

    def variable(number: int) -> str:
        names[f"v{number}"] = values[number]
        return f"v{number}"

    def held(part: Part) -> str:
        name = f"part{len(names)}"
        names[name] = _part(program, part, weights)
        return name

    # The text is spell_sum's own: nothing of the model's, or of a user's, is in it but numbers.
    return eval(spell_sum(program, value, node, variable, held), names)  # type: ignore[no-any-return]


def _part(program: Program, part: Part, weights: Weights) -> Any:
    if part.role == "conv":
        return convolution(part, weights, torch.float64, None)
    if part.role == "border":
        return border(program, part, weights)
    if part.role == "index":
        assert part.term is not None
        return torch.tensor(part.term.map.index)
    return vector(program, part, weights)
