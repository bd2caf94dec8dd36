"""Which layers' outputs are correlated, and where their channels are."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from convfold.algebra import defines_op, is_mixed
from convfold.errors import InvalidArgument
from convfold.graph.observe import module_paths

__all__ = ["channel_axis", "feature_layers"]


def feature_layers(model: nn.Module, where: str | None) -> dict[str, nn.Module]:
    """By path the modules that the glob `where` matches; without it every convolution, else every Linear layer.

    A dynamic convolution or a block counts as one layer: what it is made of is not looked at. Raises InvalidArgument
    where there is none.
    """
    modules = {path: module for module, path in module_paths(model).items()}
    if where is not None:
        found = {path: module for path, module in modules.items() if fnmatchcase(path, where)}
        if not found:
            near = difflib.get_close_matches(where, list(modules), 3, 0.3) or [path for path in modules if path][:3]
            hint = f"Modules are named like {', '.join(near)}." if near else "The model has no submodules."
            raise InvalidArgument("where reaches no module", got=repr(where), hint=hint)
        return found
    found = {}
    linear: dict[str, nn.Module] = {}
    inside: list[str] = []
    for path, module in modules.items():
        if any(outer == "" or path.startswith(f"{outer}.") for outer in inside):
            continue
        if isinstance(module, _ConvNd) or _stands_for_one(module):
            inside.append(path)
            (found if _axes(module) else linear)[path] = module
        elif isinstance(module, nn.Linear):
            linear[path] = module
    if not found and not linear:
        raise InvalidArgument(
            "the model has no convolution and no Linear layer",
            where=type(model).__name__,
            got=f"{len(modules)} modules",
            hint="Choose other modules by their names: where='*'.",
        )
    return found or linear


def _stands_for_one(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, nn.modules.batchnorm._BatchNorm)):
        return False
    return is_mixed(module) or (defines_op(module) and hasattr(module, "kernel_size"))


def _axes(module: nn.Module) -> int:
    """How many axes a convolution slides over; 0 for one that is fully connected."""
    size = getattr(module, "kernel_size", ())
    return len(size) if isinstance(size, tuple) else 1


def channel_axis(module: nn.Module, out: Tensor) -> int:
    """The axis of `out` that its channels lie on: the last one of Linear layers and of tokens (N, T, C), else 1."""
    if isinstance(module, _ConvNd) or (_stands_for_one(module) and _axes(module)):
        return out.dim() - _axes(module) - 1
    if isinstance(module, (nn.Linear, nn.LayerNorm)) or is_mixed(module):
        return out.dim() - 1
    return out.dim() - 1 if out.dim() == 3 else 1
