"""One run of a copy of the model: on what its layers are called, and which operators are executed by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from convfold.algebra import twin
from convfold.graph import ExampleInputs
from convfold.graph.inputs import does_not_run
from convfold.transform.lower.seen import Seen, seen_call, seen_linear

__all__ = ["Watched", "watch"]

aten: Any = torch.ops.aten
_CONVOLUTIONS = (aten.convolution, aten.cudnn_convolution, aten.convolution_overrideable, aten._convolution)


@dataclass
class Watched:
    """`calls`: by path, the shapes a module was called with, None for a call with more than one tensor.

    `executed`: each operator with the path and the class of the innermost module that ran it.
    """

    calls: dict[str, list[tuple[int, ...] | None]] = field(default_factory=dict)
    executed: list[tuple[str, str, Seen]] = field(default_factory=list)
    running: list[tuple[str, str]] = field(default_factory=list)

    def see(self, seen: Seen) -> None:
        path, kind = self.running[-1] if self.running else ("", "")
        self.executed.append((path, kind, seen))


class _Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watched: Watched) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched = watched

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _CONVOLUTIONS:
            self.watched.see(seen_call(tuple(args[:9])))
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    """Below it a Linear is a product of two matrices, in which maps cannot be told from vectors any more."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self.watched = watched

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.linear, torch._C._nn.linear):
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            self.watched.see(seen_linear(given["weight"], given["input"].dim() > 2))
        elif func is F.multi_head_attention_forward:
            given = dict(zip(("query", "key", "value", "embed_dim_to_check"), args, strict=False)) | kwargs
            width = given["embed_dim_to_check"]
            for wide in (3 * width, width):
                self.watched.see(Seen("linear", width, wide, 1, (), maps=True))
        return func(*args, **kwargs)


def watch(model: nn.Module, given: ExampleInputs, complaint: str = "the model does not run on these inputs") -> Watched:
    """Run a copy of `model` in eval mode on the inputs. Raises InvalidArgument, the `complaint`, where it fails."""
    copied, watched = twin(model).eval(), Watched()
    for path, module in copied.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_pre_hook(_entering(watched, path), prepend=True, with_kwargs=True)
            module.register_forward_hook(_leaving(watched), always_call=True)
    given = given.map(lambda tensor: tensor.detach().clone())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Called(watched), _Dispatched(watched):
            given.call(copied)
    except Exception as error:
        raise does_not_run(model, given, error, complaint) from error
    return watched


def _entering(watched: Watched, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        watched.running.append((path, type(module).__name__))
        # `input` is what torch's layers call it.
        given = [*args, *kwargs.values()]
        plain = len(given) == 1 and kwargs.keys() <= {"input"} and isinstance(given[0], Tensor)
        watched.calls.setdefault(path, []).append(tuple(given[0].shape) if plain else None)

    return hook


def _leaving(watched: Watched) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        watched.running.pop()

    return hook
