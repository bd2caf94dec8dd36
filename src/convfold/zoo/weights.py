"""Weights from a file into a model, and tensors made fit for a file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safetensors.torch import load_file
from torch import Tensor, nn

from convfold.errors import FileProblem

__all__ = ["apart", "check_fits", "load_weights"]


def load_weights(model: nn.Module, path: str | os.PathLike[str], *, new_shapes: bool = False) -> tuple[str, ...]:
    """Load a ``.safetensors`` file into `model`.

    With `new_shapes`, tensors that have another shape in the model (a head for other classes) keep their values; their
    names are returned. Raises FileProblem, naming what is missing or does not fit, before anything is loaded.
    """
    try:
        weights = load_file(path)
    except Exception as error:  # safetensors raises several kinds
        reason = " ".join(str(error).split())[:300]
        raise FileProblem(f"these weights do not load ({reason})", where=str(path)) from error
    own = model.state_dict()
    kept = [name for name in own if new_shapes and name in weights and own[name].shape != weights[name].shape]
    weights |= {name: own[name] for name in kept}
    check_fits(own, weights, path)
    model.load_state_dict(weights)
    return tuple(kept)


def check_fits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Hold the tensors read from `path` against a model's own. Raises FileProblem where names or shapes differ."""
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    misfits = sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if missing or unknown or misfits:
        raise FileProblem(
            "these weights are of another model",
            where=str(path),
            got=f"{_some(missing)} missing, {_some(unknown)} unknown, {_some(misfits)} of another shape",
        )


def apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values under the same names, on the CPU and contiguous, no two of them in one memory.

    safetensors holds no two names of one tensor, as tied weights are.
    """
    held: set[int] = set()
    found = {}
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in held and plain.numel() else plain
        held.add(place)
    return found


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])})" if names else "none"
