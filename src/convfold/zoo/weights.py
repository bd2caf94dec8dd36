"""Weights from a file into a model."""

from __future__ import annotations

import os

from safetensors.torch import load_file
from torch import nn

from convfold.errors import FileProblem

__all__ = ["load_weights"]


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a ``.safetensors`` file into `model`.

    Raises FileProblem, naming what is missing or does not fit, before anything is loaded.
    """
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors raises several kinds
        reason = " ".join(str(error).split())[:300]
        raise FileProblem(f"these weights do not load ({reason})", where=str(path)) from error
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misfits = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    if missing or unknown or misfits:
        raise FileProblem(
            "these weights are of another model",
            where=str(path),
            got=f"{_some(missing)} missing, {_some(unknown)} unknown, {_some(misfits)} of another shape",
        )
    model.load_state_dict(weights)


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])})" if names else "none"
