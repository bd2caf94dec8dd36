"""A layer read as a kernel, and a row of convolutions written in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from convfold.algebra import copy_hooks, has_op
from convfold.algebra.readings.module import layout
from convfold.geometry import Window, conv_window
from convfold.transform.decompose.frame import Part, Shape

__all__ = ["LINEAR", "Layer", "read_layer", "refusal", "row_of"]

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or Linear layer: its kernel (groups, rows, columns, *k) in float64 on the CPU, and its window."""

    path: str
    module: nn.Module
    shape: Shape
    window: Window
    weight: Tensor

    @property
    def bias(self) -> Tensor | None:
        """The bias in float64, on the CPU."""
        bias: Tensor | None = self.module.bias  # type: ignore[assignment]
        return None if bias is None else bias.detach().to("cpu", torch.float64)

    @property
    def dtype(self) -> torch.dtype:
        return cast(Tensor, self.module.weight).dtype


def refusal(model: nn.Module, layer: nn.Module, exposed: bool) -> str:
    """Why this layer stays as it is whatever the method, or an empty string."""
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return "it is a transposed convolution"
    if hasattr(layer, "parametrizations"):
        return "its weight is parametrised"
    weight = layer._parameters.get("weight")
    if weight is None:
        return "its weight is computed anew in each call"
    if is_lazy(weight):
        return "it is lazy: run it once on a batch first"
    if not has_op(layer) or type(layer) not in LINEAR:
        return f"{type(layer).__name__} computes something of its own"
    if weight.is_meta:
        return "its weight is on the meta device: it has no numbers"
    if not weight.is_floating_point():
        return f"its weight is {str(weight.dtype).removeprefix('torch.')}"
    own = set(layer.parameters())
    if any(own & set(m.parameters(recurse=False)) for m in model.modules() if m is not layer):
        return "its weight is shared with another module"
    if exposed:
        return "its weight is read outside of its own call too"
    if not all(bool(torch.isfinite(p).all()) for p in own):
        return "its weights are not finite"
    return "" if weight.numel() else "its weight is empty"


def read_layer(path: str, module: nn.Module) -> Layer:
    """The layer at `path`, one that nothing refuses."""
    weight = cast(Tensor, module.weight).detach().to("cpu", torch.float64)
    if isinstance(module, nn.Linear):
        return Layer(path, module, Shape(1, weight.shape[0], weight.shape[1], ()), (), weight.unsqueeze(0))
    conv = cast(_ConvNd, module)
    window = conv_window(weight.dim() - 2, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    rows = weight.shape[0] // conv.groups
    shape = Shape(conv.groups, rows, weight.shape[1], tuple(weight.shape[2:]))
    return Layer(path, module, shape, window, weight.reshape(conv.groups, rows, *weight.shape[1:]))


def row_of(layer: Layer, parts: Sequence[Part], weights: Sequence[Tensor], bias: Tensor | None) -> nn.Sequential:
    """The convolutions in the layer's place: its stride, padding, dilation and mode go with the window of each axis.

    That is exact in every padding mode: padding acts on each axis alone, so it commutes with what is done along the
    others, and with mixing channels as long as nothing is added (the bias comes with the last part). Dtype, device,
    memory format, training flag, what asks for gradients, and hooks are those of the layer.
    """
    old = layer.module
    weight = cast(Tensor, old.weight)
    # Made on the meta device: a fresh layer would draw random numbers.
    model: nn.Sequential = nn.Sequential(*(_module(layer, part) for part in parts)).to_empty(device=weight.device)
    with torch.no_grad():
        for module, values in zip(model, weights, strict=True):
            cast(Tensor, module.weight).copy_(values)
        if bias is not None:
            last = model[-1]
            last.bias = nn.Parameter(bias.to(weight), cast(Tensor, old.bias).requires_grad)
    for module in model:
        cast(Tensor, module.weight).requires_grad_(weight.requires_grad)
    model.train(old.training).to(memory_format=layout(weight))  # type: ignore[call-overload]
    copy_hooks(old, model)
    return model


def _module(layer: Layer, part: Part) -> nn.Module:
    weight = cast(Tensor, layer.module.weight)
    place: dict[str, Any] = {"device": "meta", "dtype": weight.dtype, "bias": False}
    dims = len(layer.shape.kernel)
    if not dims:
        return nn.Linear(part.inputs, part.outputs, **place)
    conv = cast(_ConvNd, layer.module)

    def own(values: Sequence[int], other: int) -> tuple[int, ...]:
        return tuple(value if axis in part.axes else other for axis, value in enumerate(values))

    padding = conv.padding if isinstance(conv.padding, str) else own(conv.padding, 0)
    padded = any(axis.lo or axis.hi for index, axis in enumerate(layer.window) if index in part.axes)
    module: nn.Module = _CONV[dims](
        part.inputs,
        part.outputs,
        own(conv.kernel_size, 1),
        own(conv.stride, 1),
        padding,
        own(conv.dilation, 1),
        part.groups,
        padding_mode=conv.padding_mode if padded else "zeros",
        **place,
    )
    return module
