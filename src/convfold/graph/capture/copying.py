"""The copy of a model that is traced: its own modules and flags, the model's own weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from convfold.algebra import HOOKS, has_hooks, twin
from convfold.errors import InvalidArgument
from convfold.graph.conditions import SizeGuard

__all__ = ["hooked_paths", "is_of_export", "traced_copy"]


def hooked_paths(model: nn.Module) -> frozenset[str]:
    """The modules whose hooks may change or watch what they compute; those that check sizes do neither."""
    return frozenset(p for p, module in model.named_modules() if has_hooks(module) and not _harmless(module))


def is_of_export(hook: Any) -> bool:
    """Whether a hook is torch.export's, which puts one before the module of a program to check its inputs."""
    return str(getattr(hook, "__module__", "")).startswith(("torch.export.", "torch._export."))


def _harmless(module: nn.Module) -> bool:
    """Whether all hooks of a module are torch.export's, or check the sizes that an earlier fold holds for."""
    held = (hook for name in HOOKS for hook in module.__dict__.get(name, {}).values())
    return all(is_of_export(hook) or isinstance(hook, SizeGuard) for hook in held if callable(hook))


def _of_torch(hook: Any) -> bool:
    """Whether a hook is torch's own and computes a weight: weight_norm, spectral_norm, pruning."""
    return str(type(hook).__module__).startswith("torch.nn.utils.")


def _without_hooks(module: nn.Module) -> None:
    """Drop the hooks; what torch's own ones compute is put around the forward, and its traces taken back."""
    kept = [hook for hook in module._forward_pre_hooks.values() if _of_torch(hook)]
    for name in HOOKS:
        if name in module.__dict__:
            module.__dict__[name] = type(module.__dict__[name])()
    if not kept:
        return
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        before = dict(module.__dict__)
        try:
            for hook in kept:
                hook(module, args)
            return inner(*args, **kwargs)
        finally:
            # An attribute that is assigned while a model is exported is refused.
            module.__dict__.clear()
            module.__dict__.update(before)

    module.__dict__["forward"] = forward


def traced_copy(model: nn.Module, *, own_buffers: bool = False) -> nn.Module:
    """A copy in eval mode without hooks, that shares all parameters (and, unless `own_buffers`, buffers).

    Raises InvalidArgument for a model that cannot be copied.
    """
    shared: dict[int, Any] = {id(p): p for p in model.parameters()}
    if not own_buffers:
        shared.update({id(b): b for b in model.buffers()})
        for module in model.modules():
            shared.update({id(v): v for v in vars(module).values() if isinstance(v, Tensor)})
    try:
        copied = twin(model, shared)
    except Exception as error:  # a model may hold anything
        raise InvalidArgument(
            f"the model cannot be copied ({' '.join(str(error).split())[:200]})", where=type(model).__name__
        ) from error
    copied.eval()
    for module in copied.modules():
        _without_hooks(module)
    return copied
