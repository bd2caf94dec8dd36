"""A folded model as a folder: its plan, and its weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from convfold.errors import FileProblem
from convfold.plan import Plan
from convfold.zoo import apart

__all__ = ["PLAN", "WEIGHTS", "save_folder"]

PLAN, WEIGHTS = "plan.json", "model.safetensors"


def save_folder(model: nn.Module, plan: Plan, path: str | os.PathLike[str]) -> str:
    """Write plan.json and model.safetensors into a folder, a new one or one that is there; returns the names.

    ``load_plan(PATH/plan.json).apply(fresh)`` gives a fresh original the folded structure, and ``load_state_dict``
    fills it; ``plan.keys`` maps old names to new. Both files are written beside first. Raises FileProblem.
    """
    folder = Path(path)
    try:
        beside = folder.absolute().parent / f".{folder.name}-{os.getpid()}"
        beside.mkdir()
        try:
            plan.save(beside / PLAN)
            save_file(apart(model.state_dict()), beside / WEIGHTS)
            shutil.copymode(beside / PLAN, beside / WEIGHTS)  # safetensors lets nobody else read
            if folder.is_dir():
                for name in (WEIGHTS, PLAN):
                    os.replace(beside / name, folder / name)
            else:
                os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise FileProblem(f"cannot write ({reason})", where=str(folder)) from error
    return f"{PLAN} and {WEIGHTS}"
