"""One measurement of ``bench zoo`` in a process of its own: ``python -m`` this, TASK NAME SETTING RESULT."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convfold.errors import ConvfoldError
from convfold.files import write_text
from convfold.studies.bench.zoo.folding import measure_folding, measure_timm_folding
from convfold.studies.bench.zoo.values import ZooSetting, measure_values

__all__ = ["TASKS", "main"]

TASKS: dict[str, Callable[[str, ZooSetting], dict[str, Any]]] = {
    "values": measure_values,
    "fold": measure_folding,
    "timm_fold": measure_timm_folding,
}


def main(task: str, name: str, setting: str, result: str) -> None:
    """Write what the task gives, or why it failed, to the file `result`."""
    warnings.simplefilter("ignore")
    try:
        found = TASKS[task](name, ZooSetting(**json.loads(setting)))
    except ConvfoldError as error:
        found = {"failed": str(error)}
    except Exception as error:  # a line that says why, whatever it was
        found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    write_text(Path(result), json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
