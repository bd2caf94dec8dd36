"""The generators in docs/, which are no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["DOCS", "script"]

DOCS = Path(__file__).parents[2] / "docs"
# They import one another by name, as they can where they are run from the command line.
sys.path.append(str(DOCS))


def script(name: str) -> ModuleType:
    """docs/NAME.py, executed anew."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
