"""Rows of a cost report as work: which kind of operator a module runs, read off its shapes and its count."""

from __future__ import annotations

from math import prod

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from convfold.cost.device.work import Work, kind_of
from convfold.cost.report import Row

__all__ = ["works"]

# Kernels in the order in which they are looked for where a count alone has to tell.
_LIKELY = (3, 1, 5, 7, 2, 4, 9, 11, 13, 15, 17, 21, 25, 27, 29, 31)


def works(row: Row, module: nn.Module | None = None) -> tuple[Work, ...]:
    """What the operators of one row ask for: its convolutions or products first, whatever else it runs after them.

    All of its bytes are the first one's. `module` is the one at ``row.path``, where it is at hand: groups and dilation
    are then known, and else inferred from shapes and multiply-accumulates, which do not tell a dilation.
    """
    if not row.operators:
        return ()
    if not row.macs:
        return (_moves(row, module),)
    calls = row.convolutions or row.operators
    heavy = Work(_heavy(row, module, calls), row.macs, row.traffic_bytes, calls)
    others = row.operators - calls
    return (heavy, Work("elementwise", 0, 0, others)) if others > 0 else (heavy,)


def _moves(row: Row, module: nn.Module | None) -> Work:
    if "Pool" in row.type:
        # Without the window, each element that is read or written counts as added once.
        read, written = (sum(map(prod, shapes)) for shapes in (row.inputs, row.outputs))
        window = getattr(module, "kernel_size", None)
        taps = 0 if window is None else prod(window) if isinstance(window, tuple) else window ** _dims(row)
        return Work("pooling", max(read, written * taps), row.traffic_bytes, row.operators)
    return Work("norm" if "Norm" in row.type else "elementwise", 0, row.traffic_bytes, row.operators)


def _dims(row: Row) -> int:
    return max(len(row.outputs[0]) - 2, 1) if row.outputs else 1


def _heavy(row: Row, module: nn.Module | None, calls: int) -> str:
    if isinstance(module, _ConvNd):
        transposed = isinstance(module, _ConvTransposeNd)
        sizes = module.in_channels, module.out_channels, module.kernel_size, module.groups, module.dilation
        return kind_of(*sizes, transposed)
    if "Conv" in row.type and "Transpose" in row.type:
        return "transposed"
    if not row.inputs or not row.outputs or len(row.inputs[0]) < 3 or len(row.inputs[0]) != len(row.outputs[0]):
        return "linear"
    if row.convolutions == 0 or "Linear" in row.type:
        return "linear"
    inputs, outputs, each = row.inputs[0][1], row.outputs[0][1], calls * prod(row.outputs[0])
    return _by_count(inputs, outputs, row.macs // max(each, 1), _dims(row))


def _by_count(inputs: int, outputs: int, each: int, dims: int) -> str:
    """The kind of a convolution of ``each = C_in/g * taps`` multiply-accumulates for an element that it writes."""
    if each % inputs == 0:
        return "pointwise" if each == inputs else "dense"
    for taps in (kernel**dims for kernel in _LIKELY):
        groups, rest = divmod(inputs * taps, max(each, 1))
        if rest == 0 and 0 < groups <= inputs and inputs % groups == 0 and outputs % groups == 0:
            return kind_of(inputs, outputs, (taps,), groups, (), False)
    return "dense"
