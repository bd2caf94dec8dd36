"""Exporting a model with an open batch where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_leaves, tree_map

from convfold.errors import InvalidArgument
from convfold.graph import ExampleInputs

__all__ = ["EXPORTERS", "batch_text", "evaluating", "export", "probes", "refused"]

# Their notes about themselves are nothing that anybody who folds a model could act on.
EXPORTERS = ("torch.export", "torch.onnx", "onnxscript", "onnx_ir")

# The size that exporters like to fix, and one that divides nothing evenly.
_BATCHES = (1, 3)


def _tensors(given: ExampleInputs) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((given.args, dict(given.kwargs))) if isinstance(leaf, Tensor)]


def _batch(given: ExampleInputs) -> int | None:
    """The size that the first axis of every input tensor has; None where there is none."""
    sizes = {t.shape[0] if t.dim() else 0 for t in _tensors(given)}
    return sizes.pop() if len(sizes) == 1 and sizes != {0} else None


def _at(given: ExampleInputs, batch: int) -> ExampleInputs:
    """The same inputs with that many rows, no two alike."""

    def rows(tensor: Tensor) -> Tensor:
        taken = tensor[torch.arange(batch, device=tensor.device) % tensor.shape[0]]
        if not tensor.is_floating_point():
            return taken
        factors = torch.linspace(1, 0.5, batch, dtype=tensor.dtype, device=tensor.device)
        return taken * factors.reshape(-1, *[1] * (tensor.dim() - 1))

    return given.map(rows)


def export(model: nn.Module, given: ExampleInputs) -> tuple[ExportedProgram, bool]:
    """The program of `model`, and whether its batch is open. Raises InvalidArgument where torch cannot export it."""
    batch = _batch(given)
    if batch is not None:
        many = _at(given, max(batch, 2))  # a size of one would be fixed
        free = Dim("batch", min=1)
        dims = tree_map(lambda leaf: {0: free} if isinstance(leaf, Tensor) else None, (many.args, dict(many.kwargs)))
        with suppress(Exception), torch.no_grad():  # a model may fix its batch in any way, and then raises anything
            program = _export(model, many, (*dims[0], *dims[1].values()))
            for probe in probes(given, True):
                probe.call(program.module())
            return program, True
    try:
        return _export(model, given, None), False
    except Exception as error:
        raise refused("exported", model, error) from error


def _export(model: nn.Module, given: ExampleInputs, dims: Any) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model, given.args, dict(given.kwargs), dynamic_shapes=dims, strict=False)


def probes(given: ExampleInputs, free: bool) -> list[ExampleInputs]:
    """The inputs themselves, and other batches where the batch is `free`."""
    return [given, *(_at(given, n) for n in _BATCHES if free and n != _batch(given))]


def batch_text(given: ExampleInputs, free: bool) -> str:
    """What a reader should know of the sizes of an exported model."""
    sizes = ", ".join("x".join(["N", *map(str, t.shape[1:])] if free else map(str, t.shape)) for t in _tensors(given))
    return f"for inputs of {sizes}"


def refused(what: str, model: nn.Module, error: Exception) -> InvalidArgument:
    """The error of a model that cannot be `what`."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return InvalidArgument(
        f"the folded model cannot be {what} ({reason})",
        where=type(model).__name__,
        hint="A folder (--out NAME without a suffix) holds any model.",
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode, and as each module was afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
