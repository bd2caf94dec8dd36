"""What an executed operator counts for: multiply-accumulates, convolution, layout only, or not known.

Multiply-accumulates start from torch's own formulas (two FLOPs each), to which the products that torch
has none for are added. Zero padding is counted: a convolution costs ``N * out * C_out * C_in/g * taps``,
a transposed one ``N * in * C_in * C_out/g * taps``, whatever of it falls outside.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from convfold.graph.operators import is_layout, operator_name, packet

__all__ = ["CONVOLUTIONS", "PRODUCTS", "forgets_values", "is_layout", "is_one_kernel", "macs", "packet", "unknown"]

aten: Any = torch.ops.aten

CONVOLUTIONS = frozenset(
    {
        aten.convolution,
        aten._convolution,
        aten.cudnn_convolution,
        aten.convolution_overrideable,
        aten._slow_conv2d_forward,
    }
)

# Each product with the positions of its two factors.
PRODUCTS: dict[Any, tuple[int, int]] = {
    aten.mm: (0, 1),
    aten.bmm: (0, 1),
    aten.mv: (0, 1),
    aten.dot: (0, 1),
    aten.addmm: (1, 2),
    aten.baddbmm: (1, 2),
    aten.addbmm: (1, 2),
    aten.addmv: (1, 2),
    aten._addmm_activation: (1, 2),
    aten._scaled_mm: (0, 1),
    aten._int_mm: (0, 1),
}


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape)) // 2


def _product(factors: tuple[int, int]) -> Callable[..., int]:
    def count(*args: Any, **kwargs: Any) -> int:
        left, right = args[factors[0]].shape, args[factors[1]].shape
        # left is (..., rows, inner) or (..., inner): every element meets each column of the right.
        columns = right[-1] if len(right) >= 2 else 1
        return prod(left) * columns

    return count


_OWN: dict[Any, Callable[..., int]] = {
    **{operator: _product(factors) for operator, factors in PRODUCTS.items() if operator not in flop_registry},
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
}

# Operators of aten that hide products (or sums over products) and have no formula here.
_HEAVY = (
    "_cdist_forward",
    "_convert_weight_to_int4pack",
    "_cudnn_rnn",
    "_fft_",
    "_grouped_mm",
    "_linalg_",
    "_mkldnn_",
    "_native_multi_head_attention",
    "_sparse_",
    "_thnn_fused_",
    "_transformer_encoder_layer_fwd",
    "_triton_",
    "_trilinear",
    "_weight_int",
    "cholesky",
    "linalg_",
    "lu_",
    "miopen_",
    "mkldnn_",
    "mps_",
    "quantized_",
)
_NAMESPACES = ("aten", "prim", "prims", "profiler")

_VALUELESS = ("empty", "zeros_like", "ones_like", "full_like", "new_")


def is_one_kernel(operator: Any) -> bool:
    """Whether the operator runs as one kernel although torch also has a decomposition of it in Python: resizing."""
    return operator_name(operator).startswith(("upsample_", "_upsample_"))


def forgets_values(operator: Any) -> bool:
    """Whether the result takes only shape and type from its arguments (``zeros_like``, ``new_ones``)."""
    return operator_name(operator).startswith(_VALUELESS)


def macs(operator: Any, args: Any, kwargs: Any, out: Any) -> int | None:
    """Multiply-accumulates of one call; None when there is no formula (elementwise work has none either)."""
    own = _OWN.get(packet(operator))
    if own is not None:
        return own(*args, **kwargs)
    formula = flop_registry.get(packet(operator))
    return None if formula is None else int(formula(*args, **kwargs, out_val=out)) // 2


def unknown(operator: Any) -> bool:
    """Whether an operator without a formula may hide products: it is heavy, or not torch's own."""
    return operator.namespace not in _NAMESPACES or operator_name(operator).startswith(_HEAVY)
