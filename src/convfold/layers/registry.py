"""Layers by name, as blocks are found by theirs."""

from __future__ import annotations

from typing import Any

from convfold.blocks.registry import Registry

__all__ = ["LAYERS", "build", "find", "names"]

LAYERS = Registry("layer")


def names() -> list[str]:
    """The names of all layers, sorted."""
    return LAYERS.names()


def find(name: str, dims: int) -> Any:
    """The class of the layer `name` for `dims` dimensions; raises with the nearest names or the legal dims."""
    return LAYERS.find(name, dims)


def build(name: str, dims: int, *arguments: Any, **options: Any) -> Any:
    """Build the layer `name` in `dims` dimensions: then the arguments of ``nn.Conv{dims}d``, then its options.

    Raises UnknownName with the nearest names, InvalidArgument for dims, arguments or options that the layer does
    not have.
    """
    return find(name, dims)(*arguments, **options)
