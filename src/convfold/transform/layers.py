"""Which layers of a model an expansion speaks of, and why some can never be expanded."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from fnmatch import fnmatchcase

from torch import nn

from convfold import blocks
from convfold.algebra import defines_op, is_mixed
from convfold.errors import InvalidArgument, InvalidType
from convfold.graph.observe import module_paths
from convfold.transform.kinds import find, has_form

__all__ = ["DIMS", "Where", "choose_layers", "expandable", "impossible", "matching"]

Where = str | Callable[[str, nn.Module], bool] | None
DIMS: dict[type, int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3, nn.Linear: 0}
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def expandable(model: nn.Module) -> dict[str, nn.Module]:
    """Every convolution, transposed convolution and Linear layer by path, those inside a block left out."""
    inside: list[str] = []
    layers: dict[str, nn.Module] = {}
    classes = _block_classes()
    for module, path in module_paths(model).items():
        if any(outer == "" or path.startswith(f"{outer}.") for outer in inside):
            continue
        if defines_op(module) or is_mixed(module) or type(module) in classes:
            inside.append(path)  # a block or a mixture already
        elif isinstance(module, (*DIMS, *_TRANSPOSED)):
            layers[path] = module
    return layers


def _block_classes() -> set[type]:
    """The classes of blocks that are linear only in part, and so have no equation of their own."""
    return {find(name, dims) for name in blocks.names() for dims in range(4) if has_form(name, dims)}


def choose_layers(model: nn.Module, block: str, where: Where) -> list[str]:
    """The paths of the layers that `where` chooses; without it every convolution, but no Linear.

    Raises InvalidArgument when the model has no layer for the block, or `where` matches none.
    """
    layers = expandable(model)
    kinds = tuple(kind for kind, dims in DIMS.items() if has_form(block, dims))
    if not any(isinstance(m, kinds) for m in layers.values()):
        raise InvalidArgument(
            "the model has no convolution to expand",
            where=type(model).__name__,
            got=f"{len(list(model.modules()))} modules",
            expected=f"at least one of {', '.join(kind.__name__ for kind in kinds)}",
        )
    if where is None:
        # Fully connected layers only where asked for: they are the head, or attention.
        return [path for path, module in layers.items() if not isinstance(module, nn.Linear)]
    return list(matching(layers, where))


def matching(layers: dict[str, nn.Module], where: str | Callable[[str, nn.Module], bool]) -> dict[str, nn.Module]:
    """Those of the layers that a glob over their paths, or a predicate, chooses.

    Raises InvalidType for a `where` of another kind, InvalidArgument, with names near to it, when it chooses none.
    """
    if isinstance(where, str):
        found = {path: layer for path, layer in layers.items() if fnmatchcase(path, where)}
    elif callable(where):
        found = {path: layer for path, layer in layers.items() if where(path, layer)}
    else:
        raise InvalidType(
            "where is neither a glob nor a predicate",
            got=type(where).__name__,
            expected="str or (name, module) -> bool",
        )
    if not found:
        near = difflib.get_close_matches(str(where), list(layers), 3, 0.3) or list(layers)[:3]
        hint = f"Layers are named like {', '.join(near)}." if near else "The model has no convolution."
        raise InvalidArgument("where matches no layer", got=repr(where), hint=hint)
    return found


def impossible(model: nn.Module, layer: nn.Module, block: str) -> str:
    """Why no block may stand for this layer, or an empty string."""
    dims = DIMS.get(type(layer))
    if isinstance(layer, _TRANSPOSED):
        return "a transposed convolution is not in the block's class"
    if hasattr(layer, "parametrizations"):
        return "its weight is parametrised"
    if dims is None:
        return f"{type(layer).__name__} computes something of its own"
    if not has_form(block, dims):
        return f"{block} has no form for {dims} dimensions"
    own = set(layer.parameters())
    if any(own & set(m.parameters(recurse=False)) for m in model.modules() if m is not layer):
        return "its weight is shared with another module"
    return ""
