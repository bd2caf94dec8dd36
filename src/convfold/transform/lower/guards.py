"""Layers that may not be replaced, and the hooks of those that may."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.utils import parametrize

from convfold.algebra import twin

__all__ = ["closed_layers", "settled", "tied_layers"]

_REMAKE = ("WeightNorm", "SpectralNorm", "BasePruningMethod")


def closed_layers(model: nn.Module, exposed: Iterable[str]) -> dict[str, tuple[str, str]]:
    """By path, why a layer is not replaced, and the way out."""
    closed: dict[str, tuple[str, str]] = {}
    ties = tied_layers(model)
    exposed = set(exposed)
    for path, module in model.named_modules():
        if _remakes(module):
            closed[path] = (
                "a hook makes its weight anew in each call",
                "Take the hook off: its remove function keeps the weight.",
            )
        elif path in exposed:
            closed[path] = ("its weights are read outside of its own call too", "")
        elif hasattr(module, "parametrizations") and module.training:
            closed[path] = ("its weight is parametrised and in training mode", "Call eval() on it first.")
        elif module.training and path in ties and any(p.requires_grad for p in module.parameters(recurse=False)):
            closed[path] = (
                "its weight is shared with another module and still trained",
                "Call eval() first; each then gets its own.",
            )
        elif isinstance(module, nn.TransformerEncoderLayer):
            # Its fused form reads the weights of its parts by name.
            closed |= {
                f"{path}.{name}".lstrip("."): ("torch's fused layer reads its weights", "")
                for name in ("linear1", "linear2")
            }
    return closed


def tied_layers(model: nn.Module) -> dict[str, list[str]]:
    """By path, the other modules that hold a parameter of the module there."""
    holders: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(path)
    found: dict[str, list[str]] = {}
    for paths in holders.values():
        for path in paths if len(paths) > 1 else ():
            found.setdefault(path, []).extend(p for p in paths if p != path and p not in found.get(path, ()))
    return found


def _remakes(module: nn.Module) -> bool:
    """Whether a hook of torch's own computes the weight: the old weight and spectral norm, and pruning."""
    hooks = module._forward_pre_hooks.values()
    return any(base.__name__ in _REMAKE for hook in hooks for base in type(hook).__mro__)


def settled(layer: nn.Module) -> nn.Module:
    """The layer with the tensors that its parametrisations give now; itself where it has none.

    Torch's own way to take them off changes the class, which the model's layer still has.
    """
    if not parametrize.is_parametrized(layer):
        return layer
    plain, made = twin(layer), list(layer.parametrizations)  # type: ignore[arg-type]
    plain.__class__ = type(layer).__mro__[1]
    del plain._modules["parametrizations"]
    for name in made:
        plain.register_parameter(name, nn.Parameter(getattr(layer, name).detach().clone()))
    return plain
