"""Modules whose forward was written anew: their own class otherwise, picklable, with source that can be read."""

from __future__ import annotations

import hashlib
import linecache
import sys
from functools import cache
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule

from convfold.graph.capture import is_of_export

__all__ = ["Rewritten", "rebuild", "rewrite", "rewritten_class"]

# What the source of a rewritten forward may name. Compilers look globals up in this module.
_GLOBALS = {"torch": torch, "F": F, "__name__": __name__, "__builtins__": __builtins__}


class Rewritten:
    """A module of class `convfold_class` that runs `convfold_forward`, a source; all else is its class's.

    The two have the library's name before them: a user's module may have anything of another name.
    """

    convfold_class: type[nn.Module]
    convfold_forward: str

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class exists in this process only: its recipe is pickled instead.
        _, _, *state = super().__reduce_ex__(protocol)
        return rebuild, (self.convfold_class, self.convfold_forward), *state


def rebuild(cls: type[nn.Module], source: str) -> nn.Module:
    """An empty module of `cls` with the forward of `source`, for pickle and copy to fill."""
    new = rewritten_class(cls, source)
    return new.__new__(new)  # type: ignore[no-any-return]


def _compile(cls: type[nn.Module], source: str) -> FunctionType:
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    filename = f"<convfold {cls.__qualname__}.forward {digest}>"
    # Without a time of change the entry is never dropped: tracebacks, inspect and compilers read it.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    held = dict(_GLOBALS)
    exec(compile(source, filename, "exec"), held)
    for name, value in held.items():
        # A compiler that inlines the forward takes its globals from this module by name.
        if name not in _GLOBALS and name != "forward":
            setattr(sys.modules[__name__], name, value)
    forward: FunctionType = held["forward"]
    forward.__qualname__, forward.__module__ = f"{cls.__qualname__}.forward", __name__
    return forward


@cache
def rewritten_class(cls: type[nn.Module], source: str) -> Any:
    """The subclass of `cls` whose forward is `source`; one for each pair, shown under the name of `cls`."""
    shown = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    own = {"forward": _compile(cls, source), "convfold_class": cls, "convfold_forward": source}
    return type(cls)(cls.__name__, (Rewritten, cls), {**shown, **own})


# What a traced module carries for its own class: its graph, its code, and what they were made of.
_TRACED = (
    "_graph",
    "_code",
    "_lineno_map",
    "_prologue_start",
    "_tracer_cls",
    "_tracer_extras",
    "_replace_hooks",
    "_create_node_hooks",
    "_erase_node_hooks",
    "_deepcopy_hooks",
    "_in_spec",
    "_out_spec",
    "meta",
    "shape_env",
    "range_constraints",
    "validate_inputs",
    "train",
    "eval",
)


def rewrite(module: nn.Module, source: str) -> None:
    """Give `module` the forward in `source`, in place. A module rewritten before keeps its first class.

    A traced module becomes a plain one: its class knows how to copy and to save a graph, which it has no more.
    """
    cls = module.convfold_class if isinstance(module, Rewritten) else type(module)
    vars(module).pop("forward", None)
    if isinstance(module, GraphModule):
        cls = nn.Module
        for name in _TRACED:
            vars(module).pop(name, None)
        for hooks, more in (
            (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
            (module._forward_hooks, module._forward_hooks_with_kwargs),
        ):
            for key in [key for key, hook in hooks.items() if is_of_export(hook)]:
                del hooks[key]
                more.pop(key, None)
        if "_guards_fn" in module._modules:
            del module._modules["_guards_fn"]
    module.__class__ = rewritten_class(cls, source)  # type: ignore[assignment]
