"""A checkpoint: one ``.safetensors`` file with everything that a training goes on from. Nothing in it is run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from convfold.errors import FileProblem
from convfold.files import write_bytes
from convfold.zoo import apart

__all__ = ["Checkpoint", "read_checkpoint", "restore_optimiser", "write_checkpoint"]

# The one key of the file's metadata; a second one would be written in an order that changes.
_KEY = "convfold-train"
_VERSION = 1
_PARTS = ("model", "ema", "optimiser")
_HINT = "The checkpoint before this one is whole: make room, and the same command with --resume goes on from it."


@dataclass(frozen=True)
class Checkpoint:
    """A training after `epoch` whole epochs.

    `identity`: all that decides the weights, by name. `circumstances`: versions and the like, in which equal settings
    may give other last bits. `history`: one record per epoch. `optimiser`: the tensors of its state by
    "index/name", with everything else of it in `plain`.
    """

    epoch: int
    identity: Mapping[str, Any]
    circumstances: Mapping[str, Any]
    history: list[dict[str, Any]]
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] = field(default_factory=dict)
    optimiser: Mapping[str, Tensor] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of_optimiser(optimiser: torch.optim.Optimizer, **more: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `optimiser` and `plain` hold; `more` goes with the latter."""
        state = optimiser.state_dict()
        tensors: dict[str, Tensor] = {}
        rest: dict[str, Any] = {}
        for index, values in state["state"].items():
            for name, value in values.items():
                (tensors if isinstance(value, Tensor) else rest)[f"{index}/{name}"] = value
        return tensors, {"state": rest, "groups": state["param_groups"], **more}


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write it beside, then rename it: `path` is the one before or this one, whole.

    Raises FileProblem when it cannot be written, as on a full disk; `path` is then as it was.
    """
    tensors = {f"{part}/{name}": tensor for part in _PARTS for name, tensor in apart(getattr(checkpoint, part)).items()}
    told = {
        "version": _VERSION,
        "epoch": checkpoint.epoch,
        "identity": checkpoint.identity,
        "circumstances": checkpoint.circumstances,
        "history": checkpoint.history,
        "plain": checkpoint.plain,
    }
    # As bytes, because safetensors' own writing reports a full disk in ways of its own.
    content = save(tensors, {_KEY: json.dumps(told)})
    try:
        write_bytes(path, content)
    except FileProblem as error:
        sentence = str(error).removesuffix(" Choose another place, or free this one.").rstrip(".")
        raise FileProblem(sentence, hint=_HINT) from error


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `write_checkpoint` wrote. Raises FileProblem for a damaged file or one of another kind."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, framework="pt") as content:
            told = json.loads((content.metadata() or {}).get(_KEY, "null"))
            for key in content.keys():  # noqa: SIM118 - no mapping
                part, _, name = key.partition("/")
                if part in parts:
                    parts[part][name] = content.get_tensor(key)
    except Exception as error:  # safetensors raises several kinds
        reason = " ".join(str(error).split())[:200]
        raise FileProblem(
            f"this checkpoint does not load ({reason})", where=os.fspath(path), hint="Take it away to begin anew."
        ) from error
    if not isinstance(told, dict) or told.get("version") != _VERSION:
        raise FileProblem(
            "this is no checkpoint of convfold train",
            where=os.fspath(path),
            expected=f"one of version {_VERSION}",
            hint="Weights are loaded with --weights.",
        )
    del told["version"]
    return Checkpoint(**told, **parts)  # type: ignore[arg-type]


def restore_optimiser(optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Give `optimiser` the state of the checkpoint, each tensor laid out in memory as its parameter is."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in (*checkpoint.optimiser.items(), *checkpoint.plain["state"].items()):
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": checkpoint.plain["groups"]})
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            # Loaded tensors are contiguous, and arithmetic on another layout may round otherwise; a step counter has no
            # layout, and stays on the CPU.
            if isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
