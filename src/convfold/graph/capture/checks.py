"""What is asked of a model before it is captured."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from convfold.errors import InvalidArgument

__all__ = ["check_tensors"]

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def _fault(tensor: Tensor) -> tuple[str, str] | None:
    if is_lazy(tensor):
        return "the parameter has no shape yet", "Run the lazy module once on a batch first."
    if tensor.is_meta:
        return "weights on the meta device have no values", "Load the weights first."
    if tensor.is_quantized:
        return "quantised weights are not captured", "Fold the model before it is quantised."
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"sparse weights are not captured (layout {tensor.layout})", "Make it dense with to_dense()."
    if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        return f"weights of type {type(tensor).__name__} are not captured", "Only plain tensors are."
    return None


def check_tensors(model: nn.Module) -> None:
    """Raise InvalidArgument for the first parameter, buffer or module that holds no plain values."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        fault = _fault(tensor)
        if fault is not None:
            raise InvalidArgument(fault[0], where=name, hint=fault[1])
    for path, module in model.named_modules():
        if type(module).__module__.startswith(_QUANTISED):
            raise InvalidArgument(
                "quantised modules are not captured",
                where=path,
                got=type(module).__name__,
                hint="Fold the model before it is quantised.",
            )
