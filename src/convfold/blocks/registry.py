"""Classes by name: each makes itself known, and is found and built by its name and its dims."""

from __future__ import annotations

import difflib
from typing import Any

from convfold.errors import InvalidArgument, UnknownName

__all__ = ["BLOCKS", "Registry", "build", "find", "names", "unknown"]


def unknown(kind: str, name: object, names: list[str]) -> UnknownName:
    """What is said of a name that is none of `names`: it offers the nearest."""
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.4) or names
    return UnknownName(
        f"unknown {kind}", got=repr(name), expected=f"one of {names}", hint=f"Did you mean {' or '.join(near)}?"
    )


class Registry:
    """The classes of one `kind` ("block", "layer"), each known by its `name` for its `dims`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, dict[int, Any]] = {}

    def register(self, cls: Any) -> None:
        """Make a class known by its `name` for its `dims`."""
        self._classes.setdefault(cls.name, {})[cls.dims] = cls

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._classes)

    def joined(self, other: Registry, kind: str) -> Registry:
        """Both; where both have a name, it is this one's."""
        both = Registry(kind)
        both._classes = {**other._classes, **self._classes}
        return both

    def find(self, name: str, dims: int) -> Any:
        """The class `name` for `dims` dimensions; raises with the nearest names or the legal dims."""
        if name not in self._classes:
            raise unknown(self.kind, name, self.names())
        classes = self._classes[name]
        if dims not in classes:
            raise InvalidArgument(
                f"the {self.kind} {name} does not exist in {dims} dimensions",
                got=dims,
                expected=f"one of {sorted(classes)}",
            )
        return classes[dims]


BLOCKS = Registry("block")


def names() -> list[str]:
    """The names of all blocks, sorted."""
    return BLOCKS.names()


def find(name: str, dims: int) -> Any:
    """The class of the block `name` for `dims` dimensions; raises with the nearest names or the legal dims."""
    return BLOCKS.find(name, dims)


def build(name: str, dims: int, *arguments: Any, **options: Any) -> Any:
    """Build the block `name` in `dims` dimensions: then the arguments of ``nn.Conv{dims}d``, then its options.

    ``build("expandnet", 0, in_features, out_features)`` is the fully connected form. Raises UnknownName with
    the nearest names, InvalidArgument for dims, arguments or options that the block does not have.
    """
    return find(name, dims)(*arguments, **options)
