"""The methods by name."""

from __future__ import annotations

import difflib

from convfold.errors import UnknownName
from convfold.transform.decompose.cp import CP
from convfold.transform.decompose.method import Method
from convfold.transform.decompose.separable import Separable
from convfold.transform.decompose.spatial import Spatial
from convfold.transform.decompose.svd import SVD
from convfold.transform.decompose.tucker import Tucker

__all__ = ["METHODS", "find_method"]

METHODS: dict[str, Method] = {m.name: m for m in (Separable(), Spatial(), SVD(), Tucker(), CP())}


def find_method(name: str) -> Method:
    """The method of that name. Raises UnknownName, offering the nearest ones."""
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), METHODS, 1, 0.4)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        raise UnknownName("no such method", where="method", got=repr(name), expected=", ".join(METHODS), hint=hint)
    return METHODS[name]
