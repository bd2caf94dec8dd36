"""What an executed operator counts for: multiply-accumulates, FLOPs, convolution, layout only, or not known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import _ops

from convfold.cost.counting.flops import Rest, rest
from convfold.cost.counting.products import CONVOLUTIONS, PRODUCTS, Formula, formula
from convfold.graph.operators import is_layout, operator_name, packet

__all__ = ["Kind", "forgets_values", "is_layout", "is_one_kernel", "kind", "packet"]

_VALUELESS = ("empty", "zeros_like", "ones_like", "full_like", "new_")
_SILENT = ("prim", "prims", "profiler")


@dataclass(frozen=True)
class Kind:
    """What is known of an operator before it runs.

    `whole`: it runs as one kernel, with no parts in Python. `factors`: positions of the two factors of a
    matrix product. `macs`, `rest`: formulas, None without one. `silent`: a mark of the runtime, no work.
    """

    name: str
    layout: bool
    forgets_values: bool
    whole: bool
    mutable: bool
    convolution: bool
    factors: tuple[int, int] | None
    macs: Formula | None
    rest: Rest | None
    silent: bool
    higher_order: bool = False

    def work(self, args: Any, kwargs: Any, out: Any) -> tuple[int, int] | None:
        """Multiply-accumulates and FLOPs of one call; None when no formula covers it."""
        if self.macs is None and self.rest is None:
            return (0, 0) if self.silent else None
        try:
            macs = 0 if self.macs is None else self.macs(args, kwargs, out)
            beside = 0 if self.rest is None else self.rest(args, kwargs, out)
        except Exception:
            # A form of the operator that the formula was not written for: told, not guessed.
            return None
        return macs, 2 * macs + beside


def is_one_kernel(operator: Any) -> bool:
    """Whether the operator runs as one kernel although torch has a decomposition of it: resizing, two gradients."""
    return operator_name(operator).startswith(("upsample_", "_upsample_", "silu_backward", "mish_backward"))


@cache
def forgets_values(operator: Any) -> bool:
    """Whether the result takes only shape and type from its arguments (``zeros_like``, ``new_ones``)."""
    return operator_name(operator).startswith(_VALUELESS)


def _has_parts(operator: Any) -> bool:
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return composite in operator.py_kernels or torch._C._dispatch_has_kernel_for_dispatch_key(
        operator.name(), composite
    )


@cache
def kind(operator: Any) -> Kind:
    """What is known of `operator`, an overload of aten or of another library, or an operator of higher order."""
    if isinstance(operator, _ops.HigherOrderOperator):
        macs = formula(operator, "")
        return Kind(str(operator), False, False, True, False, False, None, macs, None, False, True)
    name = operator._schema.name
    macs, beside = formula(packet(operator), name), rest(operator, name)
    return Kind(
        name=name,
        layout=is_layout(operator),
        forgets_values=forgets_values(operator),
        whole=is_one_kernel(operator) or not _has_parts(operator),
        mutable=operator._schema.is_mutable,
        convolution=name in CONVOLUTIONS,
        factors=PRODUCTS.get(name),
        macs=macs,
        rest=beside,
        silent=operator.namespace in _SILENT,
    )
