"""An expression as one torch module (a convolution, its transpose, a Linear), in float64 until the last."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra.grouped import GroupedLinear
from convfold.algebra.operators import Conv, ConvTranspose, Norm, Op
from convfold.algebra.protocol import op as read
from convfold.algebra.readings.kernel import kernel
from convfold.algebra.readings.tensors import frozen, leaves, tensors
from convfold.algebra.readings.twin import twin
from convfold.errors import NotFoldable, Refusal
from convfold.geometry import Window, conv_window, has_padding

__all__ = ["as_module", "check_foldable", "finish", "fold_module", "layout"]

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _padding(window: Window, named: object) -> tuple[int, ...] | str:
    kernel_size, dilation = tuple(a.kernel for a in window), tuple(a.dilation for a in window)
    pads = tuple((axis.lo, axis.hi) for axis in window)
    if any(axis.stride > 1 for axis in window):
        same = False
    else:
        same = pads == tuple((a.lo, a.hi) for a in conv_window(len(window), kernel_size, 1, "same", dilation))
    if named == "same" and same:
        return "same"
    if named == "valid" and not any(map(any, pads)):
        return "valid"
    if all(lo == hi >= 0 for lo, hi in pads):
        return tuple(lo for lo, _ in pads)
    if same:
        return "same"
    raise NotFoldable(
        Refusal(
            "Conv",
            f"its padding {pads} is negative or differs between the two sides, which no nn.Conv can hold",
            hint="Choose a padding that suits the kernel sizes.",
        )
    )


def _dilation(window: Window, named: object) -> tuple[int, ...]:
    """A one-tap axis has no dilation of its own: it keeps the one that was named."""
    own = tuple(axis.dilation for axis in window)
    if not isinstance(named, tuple) or len(named) != len(own):
        return own
    return tuple(n if axis.kernel == 1 else axis.dilation for axis, n in zip(window, named, strict=True))


def as_module(conv: Conv | ConvTranspose, like: nn.Module | None = None) -> nn.Module:
    """The torch module of `conv`: ``nn.Linear`` for an empty window, else ``nn.Conv{1,2,3}d`` or its transpose.

    Where `like` spells the same window otherwise (padding "same" or "valid", the dilation of a one-tap axis, the
    mode of no padding), its spelling is kept. Raises NotFoldable where the module cannot hold the padding.
    """
    window, weight = conv.window, conv.weight.detach()
    placement: dict[str, Any] = {
        "device": weight.device,
        "dtype": weight.dtype,
        "bias": conv.bias is not None,
    }
    shape: dict[str, Any] = {
        "kernel_size": tuple(a.kernel for a in window),
        "stride": tuple(a.stride for a in window),
        "dilation": _dilation(window, getattr(like, "dilation", None)),
        "groups": conv.groups,
    }
    module: Any
    if isinstance(conv, ConvTranspose):
        lo, extra = tuple(a.lo for a in window), tuple(a.lo - a.hi for a in window)
        if any(a.lo < 0 or not 0 <= a.lo - a.hi < max(a.stride, a.dilation) for a in window):
            raise NotFoldable(
                Refusal("ConvTranspose", f"no nn.ConvTranspose holds padding {lo} with output padding {extra}")
            )
        module = _TRANSPOSED[conv.dims](
            conv.in_channels, conv.out_channels, padding=lo, output_padding=extra, **shape, **placement
        )
    elif not window and conv.groups == 1:
        module = nn.Linear(conv.in_channels, conv.out_channels, **placement)
    elif not window:
        module = GroupedLinear(conv.in_channels, conv.out_channels, conv.groups, **placement)
    else:
        pads = _padding(window, getattr(like, "padding", None))
        mode = conv.padding_mode if has_padding(window) else getattr(like, "padding_mode", "zeros")
        module = _CONV[conv.dims](
            conv.in_channels, conv.out_channels, padding=pads, padding_mode=mode, **shape, **placement
        )
    with torch.no_grad():
        module.weight.copy_(weight)
        if conv.bias is not None:
            module.bias.copy_(conv.bias.detach())
    return module  # type: ignore[no-any-return]


def check_foldable(op: Op) -> None:
    """Raise NotFoldable when a batch normalisation is in training mode, or a tensor is not finite."""
    for leaf in leaves(op):
        if isinstance(leaf, Norm) and leaf.module.training:
            raise NotFoldable(
                Refusal(
                    type(leaf.module).__name__,
                    "it is in training mode, where it uses the statistics of each batch",
                    hint="Call eval() on the model first.",
                )
            )
    for tensor in tensors(op):
        if not tensor.is_meta and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise NotFoldable(
                Refusal(
                    "kernel",
                    f"{count} of its {tensor.numel()} values in a tensor of shape {tuple(tensor.shape)} are not finite",
                    hint="Repair the weights (a diverged training?) before folding.",
                )
            )


def layout(kernel: Tensor) -> torch.memory_format:
    """The memory format of a kernel.

    Told by its strides: a kernel of one tap or one input channel is contiguous in either format.
    """
    last = _CHANNELS_LAST.get(kernel.dim())
    if last is not None:
        plain, transposed = (
            torch.empty(kernel.shape, device="meta").to(memory_format=kind).stride()
            for kind in (torch.contiguous_format, last)
        )
        if kernel.stride() == transposed != plain:
            return last
    return torch.contiguous_format


def fold_module(module: nn.Module) -> nn.Module:
    """The plain module equal to `module`.

    Composed in float64, what the module's own equation adds up included, and cast once to the dtype of the
    kernels; device, memory format, training flag and whether anything asks for gradients are kept. Raises
    NotFoldable with the reason where it cannot be done.
    """
    expression = read(module)
    check_foldable(expression)
    with torch.no_grad():
        exact = read(twin(module).to(torch.float64))
        return finish(kernel(frozen(exact, torch.float64)), module, expression)


def finish(conv: Conv | ConvTranspose, module: nn.Module, expression: Op) -> nn.Module:
    """The composed `conv` as a torch module that takes the place of `module`, in the dtype of `expression`."""
    folded = as_module(conv, module).to(next(tensors(expression), conv.weight).dtype)
    formats = {layout(p) for p in module.parameters() if p.dim() == conv.dims + 2}
    for last in formats & set(_CHANNELS_LAST.values()):
        folded = folded.to(memory_format=last)  # type: ignore[call-overload]
    folded.requires_grad_(any(p.requires_grad for p in module.parameters()))
    return folded.train(module.training)
