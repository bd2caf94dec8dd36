"""A model as an ONNX file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves, tree_unflatten

from convfold.errors import InvalidArgument
from convfold.files import atomic_path
from convfold.graph import ExampleInputs
from convfold.graph import example_inputs as read_inputs
from convfold.transform.ship.program import EXPORTERS, batch_text, evaluating, export, probes, refused
from convfold.transform.ship.same import Reference
from convfold.zoo.quiet import quiet

__all__ = ["ONNX_NEEDS", "save_onnx"]

ONNX_NEEDS = ("onnx", "onnxscript")
# Protobuf holds no more in one message.
_LIMIT = 2**31


def save_onnx(model: nn.Module, example_inputs: object, path: str | os.PathLike[str]) -> str:
    """Write `model` in eval mode as ONNX, for any batch where torch can; returns sizes and check in words.

    Needs the packages of ONNX_NEEDS. Where ONNX Runtime is installed, the file is run in it and held to the model's
    own rounding error. Raises as `save_pt2` does, and InvalidArgument for a model of 2 GiB or more.
    """
    import onnx  # noqa: PLC0415

    given = read_inputs(model, example_inputs)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values() if isinstance(t, Tensor))
    if size >= _LIMIT:
        got = f"{size / 2**30:.1f} GiB"
        raise InvalidArgument("one ONNX file holds less than 2 GiB", where=str(path), got=got, hint="Write a .pt2.")
    with atomic_path(path) as beside, evaluating(model), quiet(*EXPORTERS):
        program, free = export(model, given)
        try:
            written = torch.onnx.export(program, dynamo=True, verbose=False, output_names=_output_names(program))
        except Exception as error:  # the exporter raises many kinds
            raise refused("written as ONNX", model, error) from error
        assert written is not None
        written.save(beside, external_data=False)
        onnx.checker.check_model(beside, full_check=True)
        run = _runner(beside)
        if run is not None:
            reference = Reference(model)
            for probe in probes(given, free):
                reference.check(probe, run(probe), str(path))
    checked = "not run, as onnxruntime is not installed" if run is None else "equal in ONNX Runtime"
    return f"{batch_text(given, free)}, {checked}"


def _output_names(program: torch.export.ExportedProgram) -> list[str] | None:
    """The keys of outputs that a model gives in a dict, as ``p3_classes`` or ``boxes_0``; None where they name none."""
    spec = program.call_spec.out_spec
    assert spec is not None
    outputs = tree_unflatten(list(range(spec.num_leaves)), spec)
    if not isinstance(outputs, Mapping) or not all(
        isinstance(out, str) for out in program.graph_signature.user_outputs
    ):
        return None
    paths = [keystr(path) for path, _ in tree_flatten_with_path(outputs)[0]]
    taken = set(program.graph_signature.user_inputs)
    names = [re.sub(r"\W+", "_", path).strip("_") for path in paths]
    names = [f"{name}_out" if name in taken else name for name in names]
    return names if len(set(names)) == len(names) else None


def _runner(path: Path) -> Callable[[ExampleInputs], Any] | None:
    """The file in ONNX Runtime, None where that is not installed."""
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(given: ExampleInputs) -> list[Tensor]:
        tensors = [leaf for leaf in tree_leaves((given.args, dict(given.kwargs))) if isinstance(leaf, Tensor)]
        feeds = {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, feeds)]

    return run
