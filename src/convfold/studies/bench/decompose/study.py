"""Does data help? Trained networks decomposed to budgets of MACs, by their weights alone and by data.

For each task, seed, method and budget there are three candidates: factors of the kernels, factors of each layer's
output, and the same with inputs as the layers before have become. Validation data chooses; held-out data reports.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from convfold.cost import cost
from convfold.errors import FileProblem, InvalidArgument
from convfold.files import output_folder, write_text
from convfold.report.decompose_picture import decompose_picture
from convfold.studies.bench.decompose.tasks import SETTINGS, TASKS, Task
from convfold.transform.decompose import METHODS, decompose

__all__ = ["WAYS", "Setting", "bench_decompose", "summarise"]

WAYS: dict[str, dict[str, Any]] = {
    "weights": {},
    "data": {"data": True},
    "compressed": {"data": True, "inputs": "compressed"},
}
FILE = "decompose.json"


@dataclass(frozen=True)
class Setting:
    """What decides the study."""

    tasks: tuple[str, ...] = tuple(TASKS)
    methods: tuple[str, ...] = tuple(METHODS)
    fractions: tuple[float, ...] = (0.65, 0.5, 0.35, 0.25)
    seeds: int = 3

    @classmethod
    def quick(cls) -> Setting:
        """A first look."""
        return cls(methods=("separable", "svd"), fractions=(0.65, 0.4), seeds=1)


def bench_decompose(setting: Setting, out: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run what is not in OUT/decompose.json yet, and write that file and a picture per task; the whole record.

    A run that was made under another setting or version is made again. Needs scikit-learn, Pillow and matplotlib.
    Raises InvalidArgument for a task or method that is not there, FileProblem where OUT cannot be written.
    """
    for names, known, kind in ((setting.tasks, list(TASKS), "task"), (setting.methods, list(METHODS), "method")):
        for name in names:
            if name not in known:
                raise InvalidArgument(f"no such {kind}", got=repr(name), expected=", ".join(known))
    file = output_folder(out) / FILE
    made = _known(file)
    for name in setting.tasks:
        for seed in range(setting.seeds):
            _seed(setting, name, seed, made, file, tell)
    wanted = [cell for cell in made["cells"] if _asked(cell, setting)]
    for name in setting.tasks:
        cells = [cell for cell in wanted if cell["task"] == name]
        networks = [n for n in made["networks"] if n["task"] == name and n["seed"] < setting.seeds]
        decompose_picture(out / f"decompose-{name}.png", name, summarise(cells), networks)
    return made


def _asked(cell: Mapping[str, Any], setting: Setting) -> bool:
    known = cell["task"] in setting.tasks and cell["method"] in setting.methods
    return known and cell["fraction"] in setting.fractions and cell["seed"] < setting.seeds


def _seed(
    setting: Setting, name: str, seed: int, made: dict[str, Any], file: Path, tell: Callable[[str], None]
) -> None:
    done = {(c["task"], c["seed"], c["method"], c["fraction"]) for c in made["cells"]}
    cells = [
        (method, fraction)
        for method in setting.methods
        for fraction in setting.fractions
        if (name, seed, method, fraction) not in done
    ]
    if not cells:
        return
    tell(f"{name}, seed {seed}: training")
    task = TASKS[name](seed)
    if not any(n["task"] == name and n["seed"] == seed for n in made["networks"]):
        made["networks"].append(_network(task, seed))
    for method, fraction in cells:
        tell(f"{name}, seed {seed}: {method} at {fraction:g}")
        began = time.process_time()
        candidates = {way: _candidate(task, method, fraction, options) for way, options in WAYS.items()}
        reached = {way: c for way, c in candidates.items() if "validation" in c}
        chosen = max(reached, key=lambda way: reached[way]["validation"]) if reached else None
        made["cells"].append(
            {
                "task": name,
                "seed": seed,
                "made_with": SETTINGS[name],
                "method": method,
                "fraction": fraction,
                "candidates": candidates,
                "chosen": chosen,
                "cpu_seconds": round(time.process_time() - began, 2),
            }
        )
        made["setting"] = asdict(setting)
        write_text(file, json.dumps(made, indent=1) + "\n")


def _network(task: Task, seed: int) -> dict[str, Any]:
    return {
        "task": task.name,
        "seed": seed,
        "made_with": SETTINGS[task.name],
        "quality": task.quality,
        "macs": cost(task.model, task.example).macs,
        "validation": task.validate(task.model),
        "held_out": task.hold_out(task.model),
        "floor": task.floor,
        "notes": task.notes,
    }


def _candidate(task: Task, method: str, fraction: float, options: Mapping[str, Any]) -> dict[str, Any]:
    given = {**options, "data": task.fit} if options else {}
    try:
        small, told = decompose(
            task.model, method, target_macs=fraction, report=True, example_inputs=task.example, **given
        )
    except InvalidArgument as error:  # the method does not reach so few MACs
        return {"refused": str(error)}
    return {
        "macs": told.macs_after,
        "validation": task.validate(small),
        "held_out": task.hold_out(small),
        "error_within_bound": all(row.error <= row.bound for row in told.rows),
        "ranks": {row.layer: row.to_dict()["rank"] for row in told.rows if row.decomposed},
        "fitted": {row.layer: row.fitted for row in told.rows if row.fitted},
    }


def _known(file: Path) -> dict[str, Any]:
    """What an earlier run left, of the same versions; else an empty record."""
    circumstances = {"torch": torch.__version__, "machine": platform.machine(), "ways": list(WAYS)}
    fresh: dict[str, Any] = {"study": "bench decompose", **circumstances, "setting": {}, "networks": [], "cells": []}
    if not file.exists():
        return fresh
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        same = isinstance(found, dict) and all(found.get(key) == value for key, value in circumstances.items())
    except (OSError, ValueError) as error:
        raise FileProblem(
            f"an earlier run's file cannot be read ({error})", where=str(file), hint="Move it away to begin anew."
        ) from error
    if not same:
        return fresh
    for key in ("networks", "cells"):
        found[key] = [one for one in found[key] if one["made_with"] == SETTINGS.get(one["task"])]
    return found


def summarise(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per method and budget the means over seeds: MACs, held-out quality of each candidate and of what was chosen."""
    rows = []
    for method, fraction in dict.fromkeys((cell["method"], cell["fraction"]) for cell in cells):
        same = [cell for cell in cells if (cell["method"], cell["fraction"]) == (method, fraction) and cell["chosen"]]
        if not same:
            continue
        row: dict[str, Any] = {"method": method, "fraction": fraction, "seeds": len(same)}
        for way in WAYS:
            runs = [cell["candidates"][way] for cell in same if "held_out" in cell["candidates"][way]]
            row[way] = [_mean(run["macs"] for run in runs), _mean(run["held_out"] for run in runs)] if runs else None
        best = [cell["candidates"][cell["chosen"]] for cell in same]
        row["chosen"] = [_mean(run["macs"] for run in best), _mean(run["held_out"] for run in best)]
        row["choices"] = {way: sum(cell["chosen"] == way for cell in same) for way in WAYS}
        rows.append(row)
    return rows


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
