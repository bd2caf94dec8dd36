"""Whether what was written computes the model's outputs, by the bound that `convfold.verify` uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convfold.algebra import twin
from convfold.errors import NotEqual
from convfold.graph import ExampleInputs
from convfold.verify.certificate import compare

__all__ = ["Reference"]


class Reference:
    """A model in eval mode with its float64 copy, to hold other runs of it against.

    With u the rounding unit of its weights and L the longest reduction, another run of the same weights may differ
    from the float64 copy by ``2 sqrt(L) * max(own, u)``, `own` being the model's own difference from it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.wide = model, twin(model).to(torch.float64)
        longest = max((p[0].numel() for p in model.parameters() if p.dim() > 1 and p.numel()), default=1)
        self.factor = 2 * math.sqrt(longest)

    def check(self, given: ExampleInputs, outputs: Any, where: str) -> None:
        """Compare `outputs`, a run on `given` from elsewhere. Raises NotEqual when it left the bound."""
        with torch.no_grad():
            own = _tensors(given.call(self.model))
            wide = _tensors(given.map(lambda t: t.double() if t.is_floating_point() else t).call(self.wide))
        others = _tensors(outputs)
        if len(others) != len(own):
            raise _different(where, f"{len(others)} outputs", f"{len(own)}")
        for y, y64, other in zip(own, wide, others, strict=True):
            if not y.is_floating_point():  # an index or a mask may turn on one rounding
                if y.shape != other.shape:
                    raise _different(where, list(other.shape), list(y.shape))
                continue
            finite = y64[y64.isfinite()].abs()
            scale = (float(finite.max()) if finite.numel() else 1.0) or 1.0
            bound = self.factor * max(compare(y64, y, scale)[0], torch.finfo(y.dtype).eps)
            error = compare(y64, other, scale)[0]
            if not error <= bound:
                raise _different(where, f"an error of {error:.1e}", f"at most {bound:.1e}")


def _tensors(outputs: Any) -> list[Tensor]:
    leaves: Iterable[Any] = tree_leaves(outputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _different(where: str, got: object, expected: object) -> NotEqual:
    return NotEqual(
        "what was exported does not compute what the folded model does; it was not kept",
        where=where,
        got=got,
        expected=expected,
    )
