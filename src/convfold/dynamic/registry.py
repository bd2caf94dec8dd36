"""Dynamic convolutions by name: what `expand` and the command line find them by."""

from __future__ import annotations

from typing import Any

from convfold.blocks.registry import Registry

__all__ = ["DYNAMIC", "build", "find", "names"]

DYNAMIC = Registry("dynamic convolution")


def names() -> list[str]:
    """The names of all dynamic convolutions, sorted."""
    return DYNAMIC.names()


def find(name: str, dims: int) -> Any:
    """The class of that name for `dims` dimensions, 0 for fully connected; raises with the nearest names."""
    return DYNAMIC.find(name, dims)


def build(name: str, dims: int, *arguments: Any, **options: Any) -> Any:
    """Build the layer `name` in `dims` dimensions: then the arguments of ``nn.Conv{dims}d``, then its options.

    Raises UnknownName with the nearest names, InvalidArgument for what the layer does not have.
    """
    return find(name, dims)(*arguments, **options)
