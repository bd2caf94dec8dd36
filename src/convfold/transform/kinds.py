"""What a layer may be expanded to, by name: a block, or a dynamic convolution."""

from __future__ import annotations

import difflib
from typing import Any

from convfold import blocks, dynamic
from convfold.errors import InvalidArgument, UnknownName

__all__ = ["find", "has_form", "kinds"]


def kinds() -> list[str]:
    """Every name that `expand` takes, sorted."""
    return sorted({*blocks.names(), *dynamic.names()})


def find(name: str, dims: int) -> Any:
    """The class of that name for `dims` dimensions; raises UnknownName with the nearest names, or for the dims."""
    if name in dynamic.names():
        return dynamic.find(name, dims)
    if name not in blocks.names():
        near = difflib.get_close_matches(str(name), kinds(), n=3, cutoff=0.4) or kinds()
        raise UnknownName(
            "unknown block", got=repr(name), expected=f"one of {kinds()}", hint=f"Did you mean {' or '.join(near)}?"
        )
    return blocks.find(name, dims)


def has_form(name: str, dims: int) -> bool:
    """Whether that name has a form for `dims` dimensions; raises UnknownName where there is no such name."""
    if name not in kinds():
        find(name, dims)
    try:
        find(name, dims)
    except InvalidArgument:
        return False
    return True
