"""A ``.pt2`` file, as torch.export.save writes it, as a module with its example inputs."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import UnflattenedModule
from torch.fx import Graph
from torch.utils._pytree import tree_leaves

from convfold.errors import FileProblem, InvalidArgument
from convfold.zoo.quiet import quiet

__all__ = ["Exported", "Program", "read_program"]

# Where the exporter left "in training mode" among the arguments of these operators.
_TRAINING = {"batch_norm": 5, "instance_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2}


@dataclass(frozen=True)
class Program:
    """An exported model as a module, and the inputs that it was exported with, None where none are kept."""

    model: nn.Module
    inputs: tuple[Any, ...] | dict[str, Any] | None


def read_program(path: str | os.PathLike[str]) -> Program:
    """Read what ``torch.export.save`` wrote. Like torch, it may run code that the file holds.

    Raises FileProblem when there is no such file, when it is truncated or of another kind, and when a layer in it
    was exported in training mode, which a graph cannot leave.
    """
    if not os.path.isfile(path):
        raise FileProblem("there is no such file", where=str(path))
    if not zipfile.is_zipfile(path):
        raise FileProblem(
            "this is no whole .pt2 file", where=str(path), expected="a file that torch.export.save wrote to its end"
        )
    try:
        with quiet("torch.export"):  # the error says what torch could not read
            program = torch.export.load(path)
            model = _module(program)
    except Exception as error:  # torch raises many kinds for a damaged file
        # torch's own RuntimeError points to a log that is not shown here.
        said = "" if isinstance(error, RuntimeError) else " ".join(str(error).split())[:200]
        reason = said or f"{type(error).__name__} in torch.export.load"
        raise FileProblem(
            f"this .pt2 file does not load ({reason})",
            where=str(path),
            expected="a file that torch.export.save wrote",
        ) from error
    if training := _in_training(program):
        raise FileProblem(
            f"{training} was exported in training mode",
            where=str(path),
            hint="Call model.eval() before torch.export.export.",
        )
    return Program(model, _inputs(program.example_inputs))


def _in_training(program: torch.export.ExportedProgram) -> str:
    """The first layer that the graph holds in training mode."""
    for node in program.graph.nodes:
        name = getattr(node.target, "_opname", "")
        place = _TRAINING.get(name.rstrip("_"))
        if place is not None and len(node.args) > place and node.args[place] is True:
            modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            return f"{name} in {modules[-1]}" if modules else name
    return ""


class Exported(UnflattenedModule):
    """A program with the submodules that it was exported from; it takes inputs of the sizes of `accepted` alone."""

    accepted: list[tuple[int | None, ...]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        got = [tuple(leaf.shape) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not all(map(_fits, got, self.accepted)) or len(got) != len(self.accepted):
            raise InvalidArgument(
                "the program was exported for other sizes",
                got=", ".join(map(_text, got)),
                expected=", ".join(map(_text, self.accepted)),
            )
        return super().forward(*args, **kwargs)


def _fits(got: tuple[int, ...], accepted: tuple[int | None, ...]) -> bool:
    return len(got) == len(accepted) and all(b is None or a == b for a, b in zip(got, accepted, strict=True))


def _text(sizes: tuple[int | None, ...]) -> str:
    return "x".join("N" if size is None else str(size) for size in sizes)


def _module(program: torch.export.ExportedProgram) -> nn.Module:
    module = torch.export.unflatten(program)
    values = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    tensors = [value for value in values if isinstance(value, Tensor)]
    module.accepted = [tuple(n if isinstance(n, int) else None for n in tensor.shape) for tensor in tensors]
    # Torch's own check, as all that it noted of symbolic sizes, stands in the way of a deep copy.
    module.check_input_constraints = False
    for graph in [part.graph for part in module.modules() if isinstance(getattr(part, "graph", None), Graph)]:
        for node in graph.nodes:
            node.meta = {}
    module.range_constraints = {}
    module.__class__ = Exported
    return module.eval()


def _inputs(example: tuple[tuple[Any, ...], dict[str, Any]] | None) -> Any:
    """As convfold takes them: a tuple of positional or a dict of keyword inputs, None where there are both."""
    if example is None or all(example):
        return None
    args, kwargs = example
    return dict(kwargs) if kwargs else tuple(args)
