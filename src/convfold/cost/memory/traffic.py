"""Memory traffic of one executed operator: bytes of every operand read and of every output written.

    traffic = sum bytes(operands) + sum bytes(outputs)

as if every operand came from memory once and every output went there once. A view moves nothing. An operand
that is broadcast counts its distinct elements; one that is given twice is read once; a lookup (`embedding`,
`gather`, `index`) reads of its table no more than it gives. An in-place operator reads and writes its operand;
what is only overwritten (``out=``, the target of ``copy_``, ``fill_``) is not read. What takes only shape
and type from its operands reads nothing, what only reserves memory writes nothing either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from convfold.cost.counting import operators
from convfold.cost.counting.leaves import tensors
from convfold.graph.operators import operator_name

__all__ = ["tensor_bytes", "traffic"]

_NO_TRAFFIC = frozenset({"_unsafe_view", "lift", "lift_fresh", "resize_", "set_", "_local_scalar_dense"})
_LOOKUPS = frozenset({"embedding", "gather", "index", "index_select", "take", "_unsafe_index"})
_OVERWRITES = ("copy_", "fill_", "zero_", "normal_", "uniform_", "exponential_", "random_", "bernoulli_", "geometric_")


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor: what is expanded along an axis is there once."""
    count = tensor.numel()
    if count and not tensor.is_sparse and not tensor.is_nested:
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            if stride == 0:
                count //= size
    return count * tensor.element_size()


def traffic(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Bytes that one call of the operator `func` reads and writes."""
    name = operator_name(func)
    if func.is_view or name in _NO_TRAFFIC or "empty" in name:
        return 0
    results = {id(tensor): tensor_bytes(tensor) for tensor in tensors(out)}
    written = sum(results.values())
    read = 0
    if not operators.forgets_values(func):
        read = sum({id(tensor): tensor_bytes(tensor) for tensor in tensors((args, kwargs))}.values())
        if name in _LOOKUPS:
            table = tensor_bytes(args[0])
            read += min(table, written) - table
    if func._schema.is_mutable:
        for tensor, only_overwritten in _written(func, name, args, kwargs):
            size = tensor_bytes(tensor)
            read -= size * only_overwritten
            written += size * (id(tensor) not in results)
    return read + written


def _written(func: Any, name: str, args: Any, kwargs: Any) -> Iterable[tuple[Tensor, bool]]:
    """The operands that the call writes to, and whether without having read them."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = kwargs.get(argument.name, args[place] if place < len(args) else None)
        for tensor in tensors(value):
            yield tensor, bool(argument.is_out) or (place == 0 and name in _OVERWRITES)
