"""Which executed operators compute nothing."""

from __future__ import annotations

from typing import Any

__all__ = ["is_layout", "operator_name", "packet"]

# Operators that only give, move or reserve memory, beyond those that torch marks as views.
_LAYOUT = frozenset(
    {
        "_local_scalar_dense",
        "_to_copy",
        "_unsafe_view",
        "clone",
        "copy",
        "copy_",
        "lift",
        "lift_fresh",
        "resize_",
        "set_",
        "unsafe_chunk",
        "unsafe_split",
        "unsafe_split_with_sizes",
    }
)


def packet(operator: Any) -> Any:
    """The operator without its overload: ``aten.add`` of ``aten.add.Tensor``."""
    return getattr(operator, "overloadpacket", operator)


def operator_name(operator: Any) -> str:
    """The operator's name, without namespace and overload: ``add`` of ``aten.add.Tensor``."""
    return str(packet(operator).__name__)


def is_layout(operator: Any) -> bool:
    """Whether the operator is a view, a copy, a cast, a read or an allocation: it computes nothing."""
    name = operator_name(operator)
    return operator.is_view or name in _LAYOUT or name.endswith("_copy") or "empty" in name
