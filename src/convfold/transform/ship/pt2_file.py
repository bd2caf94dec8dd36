"""A model as a ``.pt2`` file."""

from __future__ import annotations

import os

import torch
from torch import nn

from convfold.files import atomic_path
from convfold.graph import example_inputs as read_inputs
from convfold.transform.ship.program import EXPORTERS, batch_text, evaluating, export, probes
from convfold.transform.ship.same import Reference
from convfold.zoo.quiet import quiet

__all__ = ["save_pt2"]


def save_pt2(model: nn.Module, example_inputs: object, path: str | os.PathLike[str]) -> str:
    """Write `model` in eval mode with ``torch.export.save``, for any batch where torch can; returns the sizes in words.

    What was written is read back, run, and held to the model's own rounding error. Raises InvalidArgument when
    torch cannot export the model, NotEqual when the file computes something else, FileProblem when it cannot be
    written; then no file is left.
    """
    given = read_inputs(model, example_inputs)
    with atomic_path(path) as beside, evaluating(model), quiet(*EXPORTERS):
        program, free = export(model, given)
        program.example_inputs = (given.args, dict(given.kwargs))
        torch.export.save(program, beside)
        written, reference = torch.export.load(beside).module(), Reference(model)
        for probe in probes(given, free):
            with torch.no_grad():
                outputs = probe.call(written)
            reference.check(probe, outputs, str(path))
    return batch_text(given, free)
