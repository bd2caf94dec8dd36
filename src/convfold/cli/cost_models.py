"""What is counted: a torch model or an ONNX file by name, alone or beside another one on the same input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from convfold.cli.models import Built, build, read_sizes
from convfold.cost import CostReport
from convfold.cost import cost as count
from convfold.cost.roofline import timed
from convfold.cost.tables.units import sizes
from convfold.cost.what_if.places import PlacedLayer, placed_layers
from convfold.errors import InvalidArgument
from convfold.transform.fold_onnx import check_installed
from convfold.zoo import is_onnx

__all__ = ["Counted", "counted", "counted_pair"]

Stage = Callable[[str], None]


@dataclass(frozen=True)
class Counted:
    """A report, the name of what was counted, its inputs as text, and its layers."""

    name: str
    inputs: str
    report: CostReport
    layers: tuple[PlacedLayer, ...]


def counted(
    model: str, shapes: list[str] | None, weights: Path | None, training: bool, latency: bool, stage: Stage
) -> Counted:
    """Count the model of that name, with predicted `latency` if asked. Raises what building and counting raise."""
    if is_onnx(model):
        if latency:
            raise InvalidArgument(
                "what is predicted is PyTorch's speed, not that of a file", where="--latency", got=model
            )
        return _file(model, [read_sizes(shape) for shape in shapes or ()], weights, training, stage)
    stage(f"building {model}")
    built = build(model, weights)
    inputs = built.needed(shapes, "costs depend on the input")
    stage("counting")
    return _counted(built, inputs, training, latency)


def counted_pair(
    model: str,
    other: str,
    shapes: list[str] | None,
    weights: Path | None,
    training: bool,
    latency: bool,
    stage: Stage,
) -> tuple[Counted, Counted]:
    """Count two models on the same inputs: those that are named, else those of the one that knows its own.

    Raises InvalidArgument where each has inputs of its own that differ.
    """
    known = shapes
    if not known:
        stage("building")
        found = [(name, _known(name)) for name in (model, other)]
        stated = [(name, shape) for name, shape in found if shape]
        if len(stated) == 2 and stated[0][1] != stated[1][1]:
            (_, first), (_, second) = stated
            raise InvalidArgument(
                f"{other} takes other inputs than {model}", where="--vs", got=", ".join(second or ()),
                expected=", ".join(first or ()), hint="--input gives one for both.",
            )  # fmt: skip
        known = stated[0][1] if stated and len(stated) < 2 else None
    one = counted(model, known, weights, training, latency, stage)
    return one, counted(other, known, None, training, latency, stage)


def _known(name: str) -> list[str] | None:
    """The shapes of the inputs that a model is known to take."""
    if is_onnx(name):
        check_installed()
        from convfold.cost.onnx.count import stated_shapes  # noqa: PLC0415

        return [sizes(shape) for shape in stated_shapes(name)] or None
    inputs = build(name).known
    return None if inputs is None else _shapes(inputs)


def _counted(built: Built, inputs: Any, training: bool, latency: bool) -> Counted:
    report = count(built.model, inputs, training=True) if training else count(built.model, inputs)
    report = timed(report, built.model) if latency else report
    return Counted(built.name, ", ".join(_shapes(inputs)), report, placed_layers(built.model, report))


def _shapes(inputs: Any) -> list[str]:
    return [sizes(tuple(leaf.shape)) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)]


def _file(path: str, shapes: Sequence[tuple[int, ...]], weights: Path | None, training: bool, stage: Stage) -> Counted:
    if weights is not None:
        raise InvalidArgument("an ONNX file holds its weights", where="--weights", got=str(weights))
    if training:
        raise InvalidArgument("an ONNX file has no training step", where="--training", got=path)
    check_installed()
    from convfold.cost.onnx.count import cost_file  # noqa: PLC0415

    stage(f"reading {path}")
    found = cost_file(path, shapes)
    stage("counting")
    told = ", ".join(f"{name} {sizes(shape)}" for name, shape in found.inputs.items())
    return Counted(path, told, found.report, found.layers)
