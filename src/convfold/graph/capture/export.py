"""Exporting a model with open sizes: all of them, else the batch alone, else as they are."""

from __future__ import annotations

import io
import linecache
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from convfold.errors import InvalidArgument
from convfold.graph.capture.marks import Recorder
from convfold.graph.inputs import ExampleInputs
from convfold.graph.sizes import Sizes, expression

__all__ = ["Exported", "Root", "export", "own_frame", "placeholders"]

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep


@dataclass
class Exported:
    """The graph, and what of the sizes it leaves open."""

    program: ExportedProgram
    tensors: list[Tensor]
    limits: tuple[str, ...]


class Root(nn.Module):
    """A model as a function of its tensor inputs alone; what else it is given is fixed."""

    token: Tensor

    def __init__(self, model: nn.Module, given: ExampleInputs, recorder: Recorder) -> None:
        super().__init__()
        self.model = model
        leaves, self.tree = tree_flatten((given.args, dict(given.kwargs)))
        self.leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.recorder = recorder
        self.register_buffer("token", torch.zeros(1), persistent=False)

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.tree)
        self.recorder.reset()
        self.recorder.token = self.token
        self.model(*args, **kwargs)
        return [tensors[0] if tensors else self.token]


def own_frame(frames: Any) -> str:
    """``path:line`` of the innermost frame that is neither torch's nor this package's; "" where there is none."""
    for frame in reversed(list(frames)):
        name = os.path.abspath(frame.filename)
        if not name.startswith((_TORCH, _HERE)) and not frame.filename.startswith("<"):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def _doubled(tensors: list[Tensor]) -> list[Tensor] | None:
    """A batch of one as a batch of two: only a size above one is left open by torch."""
    if not tensors or any(t.dim() == 0 or t.shape[0] != 1 for t in tensors):
        return None
    return [torch.cat([t, t]) for t in tensors]


def _open(tensors: list[Tensor], *, batch_only: bool) -> list[dict[int, Any]]:
    """The axes left open: sizes above one, but not axis 1. Open channels could not be split, nor averaged alone."""
    return [
        {
            axis: Dim.AUTO
            for axis, size in enumerate(t.shape)
            if size > 1 and (axis == 0 or (axis > 1 and not batch_only))
        }
        for t in tensors
    ]


def _attempts(tensors: list[Tensor]) -> list[tuple[list[Tensor], list[dict[int, Any]]]]:
    many = _doubled(tensors) or tensors
    attempts = [(many, _open(many, batch_only=False)), (many, _open(many, batch_only=True))]
    if many is not tensors:
        attempts.append((tensors, _open(tensors, batch_only=False)))
    return [*attempts, (tensors, [{} for _ in tensors])]


def export(model: nn.Module, given: ExampleInputs, recorder: Recorder) -> Exported:
    """The graph of `model`, whose forwards `recorder` wraps.

    Raises InvalidArgument with operator and line where torch can export it at no size.
    """
    tensors = [leaf for leaf in tree_leaves((given.args, dict(given.kwargs))) if isinstance(leaf, Tensor)]
    root = Root(model, given, recorder)
    failure: Exception | None = None
    for inputs, dims in _attempts(tensors):
        try:
            with torch.no_grad(), _quiet(), _oblivious():
                program = torch.export.export(root, tuple(inputs), dynamic_shapes=(tuple(dims),), strict=False)
        except Exception as error:  # the exporter raises any error, also of the model's own code
            failure = error
            if _depends_on_data(error):
                break  # at every size
            continue
        if (inputs is not tensors and _fixed_batch(program)) or _pinned(program, inputs):
            continue  # a size is fixed in fact: by the next attempt in name too
        return Exported(program, tensors, _limits(program, tensors))
    assert failure is not None
    raise _refused(model, given, failure) from failure


def _oblivious() -> AbstractContextManager[None]:
    """Without asking at every view which open size might be one: torch would do algebra for ten seconds and more.

    torch's own exporter to ONNX does so too. Not all versions of torch know it, and none needs it.
    """
    known = hasattr(_config, "backed_size_oblivious")
    return _config.patch(backed_size_oblivious=True) if known else nullcontext()  # type: ignore[attr-defined]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own words: the graph of each failed attempt, warnings about the copy."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _depends_on_data(error: BaseException) -> bool:
    return any(isinstance(cause, GuardOnDataDependentSymNode) for cause in _causes(error))


def placeholders(program: ExportedProgram) -> list[Any]:
    """The nodes of the model's own inputs, in order."""
    names = [n for n in program.graph_signature.user_inputs if isinstance(n, str)]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return [nodes[name] for name in names if name in nodes]


def _fixed_batch(program: ExportedProgram) -> bool:
    return any(isinstance(node.meta["val"].shape[0], int) for node in placeholders(program))


def _pinned(program: ExportedProgram, tensors: list[Tensor]) -> bool:
    """Whether the model holds only where sizes that were left open have one value (H*W = 49)."""
    sizes = [
        (size.node, int(value))
        for node, tensor in zip(placeholders(program), tensors, strict=True)
        for size, value in zip(node.meta["val"].shape, tensor.shape, strict=True)
        if isinstance(size, torch.SymInt)
    ]
    if not sizes:
        return False
    example = {node.expr: value for node, value in sizes if isinstance(node.expr, sympy.Symbol)}
    elsewhere = Sizes(example).elsewhere
    guards = [guard.expr for guard in sizes[0][0].shape_env.guards]
    return any(isinstance(guard, sympy.Eq) and guard.xreplace(elsewhere) == sympy.false for guard in guards)


def _limits(program: ExportedProgram, tensors: list[Tensor]) -> tuple[str, ...]:
    limits = []
    for index, (node, tensor) in enumerate(zip(placeholders(program), tensors, strict=True)):
        sizes = map(expression, node.meta["val"].shape)
        axes = [str(axis) for axis, size in enumerate(sizes) if isinstance(size, int) and axis != 1]
        if axes:
            limits.append(
                f"Captured at fixed sizes: tensor input {index} of shape {list(tensor.shape)}, axes {', '.join(axes)}."
            )
    return tuple(limits)


def _refused(model: nn.Module, given: ExampleInputs, error: Exception) -> InvalidArgument:
    hint = "The parts below it may still be: fold them alone."
    if _depends_on_data(error):
        reason = "a value that is computed from the inputs decides what is executed"
    else:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return InvalidArgument(
        f"the model cannot be captured ({reason})",
        where=own_location(error) or type(model).__name__,
        got=given.described(),
        hint=hint,
    )


def own_location(error: BaseException) -> str:
    """The line of the user's code that raised, with its text."""
    for cause in _causes(error):
        place = own_frame(traceback.extract_tb(cause.__traceback__))
        if place:
            path, _, line = place.rpartition(":")
            text = linecache.getline(path, int(line)).strip()
            return f"{place} ({text})" if text else place
    return ""
