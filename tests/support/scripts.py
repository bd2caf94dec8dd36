"""The generators in docs/, which are no package, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["DOCS", "script"]

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    """docs/NAME.py, executed anew."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
