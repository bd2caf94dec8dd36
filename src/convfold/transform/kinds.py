"""What a layer may be expanded to, by name: a block, or a dynamic convolution."""

from __future__ import annotations

from typing import Any

from convfold import blocks, dynamic
from convfold.blocks.registry import unknown
from convfold.errors import InvalidArgument

__all__ = ["find", "has_form", "kinds"]


def kinds() -> list[str]:
    """Every name that `expand` takes, sorted."""
    return sorted({*blocks.names(), *dynamic.names()})


def find(name: str, dims: int) -> Any:
    """The class of that name for `dims` dimensions; raises UnknownName with the nearest names, or for the dims."""
    if name in dynamic.names():
        return dynamic.find(name, dims)
    if name not in blocks.names():
        raise unknown("block", name, kinds())
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
