"""Blocks by name: each class makes itself known, and is found and built by its name and its dims."""

from __future__ import annotations

import difflib
from typing import Any

from convfold.errors import InvalidArgument, UnknownName

__all__ = ["build", "find", "names", "register"]

_REGISTRY: dict[str, dict[int, Any]] = {}


def register(cls: Any) -> None:
    """Make a class known by its `name` for its `dims`."""
    _REGISTRY.setdefault(cls.name, {})[cls.dims] = cls


def names() -> list[str]:
    """The names of all blocks, sorted."""
    return sorted(_REGISTRY)


def find(name: str, dims: int) -> Any:
    """The class of the block `name` for `dims` dimensions; raises with the nearest names or the legal dims."""
    if name not in _REGISTRY:
        near = difflib.get_close_matches(str(name), names(), n=3, cutoff=0.4) or names()
        raise UnknownName(
            "unknown block",
            got=repr(name),
            expected=f"one of {names()}",
            hint=f"Did you mean {' or '.join(near)}?",
        )
    classes = _REGISTRY[name]
    if dims not in classes:
        raise InvalidArgument(
            f"the block {name} does not exist in {dims} dimensions",
            got=dims,
            expected=f"one of {sorted(classes)}",
        )
    return classes[dims]


def build(name: str, dims: int, *arguments: Any, **options: Any) -> Any:
    """Build the block `name` in `dims` dimensions: then the arguments of ``nn.Conv{dims}d``, then its options.

    ``build("expandnet", 0, in_features, out_features)`` is the fully connected form. Raises UnknownName with
    the nearest names, InvalidArgument for dims, arguments or options that the block does not have.
    """
    return find(name, dims)(*arguments, **options)
