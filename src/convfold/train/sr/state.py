"""A training run as one file, so that a run killed at any moment goes on as if it had not been."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from convfold.errors import FileProblem, InvalidArgument
from convfold.files import write_bytes
from convfold.train.settings import differences
from convfold.train.sr.fit import Fit

__all__ = ["load_fit", "save_fit"]

_KEY = "convfold.sr"
_MODEL, _ADAM, _LOSSES = "model.", "adam.", "losses"


def save_fit(fit: Fit, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write weights, Adam's moments and the losses so far as safetensors, whole or not at all, with the `settings`."""
    tensors = {f"{_MODEL}{name}": tensor for name, tensor in fit.model.state_dict().items()}
    for index, parameter in enumerate(fit.trained):
        tensors |= {f"{_ADAM}{index}.{key}": value for key, value in fit.optimiser.state[parameter].items()}
    tensors[_LOSSES] = torch.tensor(fit.losses, dtype=torch.float64)
    whole = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(whole, {_KEY: json.dumps(settings, sort_keys=True)}))


def load_fit(fit: Fit, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Put a fresh `fit` where the file's was. Raises FileProblem for a file that is no whole checkpoint of this kind,
    InvalidArgument where its settings differ from `settings`, saying how, or its network is another one; `fit` is then
    as it was.
    """
    found, begun = _read(Path(path))
    asked = json.loads(json.dumps(settings))
    if changed := differences(begun, asked):
        raise InvalidArgument(
            "the run was begun with other settings",
            where=str(path),
            got="; ".join(changed),
            hint="Ask for the same, or begin anew elsewhere.",
        )
    own = fit.model.state_dict()
    theirs = {name.removeprefix(_MODEL): tensor for name, tensor in found.items() if name.startswith(_MODEL)}
    apart = sorted(
        name
        for name in {*own, *theirs}
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape
    )
    if apart:
        raise InvalidArgument(
            "the checkpoint is of another network",
            where=str(path),
            got=f"{len(apart)} tensors that differ, first {apart[0]}",
            hint="Ask for the same network, or begin anew elsewhere.",
        )
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        if name.startswith(_ADAM):
            index, key = name.removeprefix(_ADAM).split(".", 1)
            states.setdefault(int(index), {})[key] = tensor
    fit.model.load_state_dict(theirs)
    for number, state in states.items():
        parameter = fit.trained[number]
        # Adam keeps its count of steps on the CPU, whatever the device.
        fit.optimiser.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
    fit.losses[:] = found[_LOSSES].tolist()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise FileProblem("there is no such checkpoint", where=str(path)) from error
    except (SafetensorError, OSError) as error:
        raise FileProblem(f"this checkpoint cannot be read ({error})", where=str(path)) from error
    if _KEY not in notes or _LOSSES not in tensors:
        raise FileProblem("this is no checkpoint of convfold train sr", where=str(path))
    return tensors, json.loads(notes[_KEY])
