"""From modules to expressions: `op(module)` reads torch's linear modules and everything with an ``op()`` method.

The folder sees blocks through this protocol alone, so a block needs no fold code, and anybody's own module
folds as soon as it has an ``op()`` that returns its equation.
"""

from __future__ import annotations

from functools import reduce
from operator import rshift
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from convfold.algebra.operators import AvgPool, Conv, ConvTranspose, Identity, Norm, Op
from convfold.algebra.readings.kernel import kernel as read_kernel
from convfold.errors import InvalidType, NotFoldable, Refusal
from convfold.geometry import Axis, conv_window

__all__ = ["HOOKS", "copy_hooks", "defines_op", "has_hooks", "has_op", "is_mixed", "kernel", "op"]

# Where torch keeps the hooks of a module, with what is noted of them.
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
NORMS: dict[type, int | None] = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.SyncBatchNorm: None}


def _kind(module: nn.Module, kinds: tuple[type, ...]) -> type | None:
    """The torch class whose `forward` this module runs: a subclass that overrides it is something else."""
    for kind in kinds:
        if isinstance(module, kind) and type(module).forward is kind.forward:  # type: ignore[attr-defined]
            inner = getattr(kind, "_conv_forward", None)
            return kind if inner is None or type(module)._conv_forward is inner else None  # type: ignore[attr-defined]
    return None


def has_hooks(module: nn.Module) -> bool:
    """Whether a hook, forward or backward, may change or watch what this module computes."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind, None) for kind in kinds)


def copy_hooks(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the hooks of the module that it takes the place of."""
    for name in HOOKS:
        getattr(target, name).update(getattr(source, name, None) or {})


def defines_op(module: nn.Module) -> bool:
    """Whether the module's class gives its own equation; a submodule that is called "op" is none."""
    return callable(getattr(type(module), "op", None))


def is_mixed(module: nn.Module) -> bool:
    """Whether the module mixes its kernels per sample, and says itself what of it is static.

    Such a class has ``simplified()``, an equal module that runs less (the module itself where there is nothing to
    do), and ``absorbed(norm)``, the same with the batch normalisation after it folded in; `in_channels` and `window`
    as a convolution; `router`, None where coefficients are given at each call, and then their number `num_experts`.
    """
    return all(callable(getattr(type(module), name, None)) for name in ("simplified", "absorbed"))


def has_op(module: nn.Module) -> bool:
    """Whether `op` can read this module."""
    if defines_op(module):
        return True
    if _kind(module, (nn.Sequential,)) is not None and isinstance(module, nn.Sequential):
        return bool(len(module)) and all(has_op(child) for child in module)
    return _kind(module, (*CONVS, *TRANSPOSED, *POOLS, *NORMS, nn.Linear, nn.Identity)) is not None


def _conv(module: _ConvNd) -> Conv:
    dims = module.weight.dim() - 2
    window = conv_window(dims, module.kernel_size, module.stride, module.padding, module.dilation)
    return Conv(module.weight, module.bias, window, module.groups, module.padding_mode)


def _transposed(module: _ConvTransposeNd) -> ConvTranspose:
    pads = cast(tuple[int, ...], module.padding)  # torch refuses its names for transposed convolutions
    rows = zip(module.kernel_size, module.stride, module.dilation, pads, module.output_padding, strict=True)
    window = tuple(Axis(k, s, d, p, p - o) for k, s, d, p, o in rows)
    return ConvTranspose(module.weight, module.bias, window, module.groups)


def _pool(module: Any, dims: int, channels: int) -> AvgPool:
    window = conv_window(dims, module.kernel_size, module.stride, module.padding)
    divisor = getattr(module, "divisor_override", None)
    return AvgPool(channels, window, "zeros", module.count_include_pad, module.ceil_mode, divisor)


def op(module: nn.Module, *, channels: int | None = None, dims: int | None = None) -> Op:
    """The expression that `module` computes, over its live parameters.

    `channels` and `dims` are those of its input, for modules that do not say themselves (a pooling, an
    identity, a synchronised batch normalisation). Raises NotFoldable for a module that is not linear, or
    whose forward convfold does not know. Hooks are not looked at: they are the caller's to respect.
    """
    if not isinstance(module, nn.Module):
        raise InvalidType("op() reads modules", got=type(module).__name__, expected="torch.nn.Module")
    name = type(module).__name__
    if defines_op(module):
        return module.op()  # type: ignore[no-any-return, operator]
    if _kind(module, (nn.Sequential,)) is not None and isinstance(module, nn.Sequential) and len(module):
        parts: list[Op] = []
        for child in module:
            before = parts[-1].out_channels if parts else channels
            parts.append(op(child, channels=before, dims=parts[-1].dims if parts else dims))
        return reduce(rshift, parts)
    return _leaf(module, name, channels, dims)


def _leaf(module: nn.Module, name: str, channels: int | None, dims: int | None) -> Op:
    if isinstance(module, _ConvNd) and _kind(module, CONVS):
        return _conv(module)
    if isinstance(module, _ConvTransposeNd) and _kind(module, TRANSPOSED):
        return _transposed(module)
    if isinstance(module, nn.Linear) and _kind(module, (nn.Linear,)):
        return Conv(module.weight, module.bias, ())
    norm = _kind(module, tuple(NORMS))
    if norm is not None and isinstance(module, _BatchNorm):
        known = dims if dims is not None else NORMS[norm]
        if known is not None:
            return Norm(module, known)
    if channels is not None and dims is not None and _kind(module, (nn.Identity,)) is not None:
        return Identity(channels, dims)
    pool = _kind(module, POOLS)
    if channels is not None and pool is not None:
        return _pool(module, POOLS.index(pool) + 1, channels)
    reason = (
        "its channels are not known" if has_op(module) else "it is not linear, or its forward is not known to convfold"
    )
    raise NotFoldable(Refusal(name, reason, hint="Give it an op() method that returns its equation."))


def kernel(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """The equivalent kernel of a linear module: ``module(x) = conv(x, weight) + bias``.

    Returns (weight, bias) in the module's dtype, differentiable in its parameters; bias is None where there is
    none. Batch normalisations count with their running statistics, in training mode too: while training, the
    module itself uses the statistics of each batch instead. Raises NotFoldable where there is no such kernel.
    """
    conv = read_kernel(op(module), running=True)
    return conv.weight, conv.bias
