"""What a fold leaves as it is, and why: hooks, ties, norms that train, numbers that are not finite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from convfold.algebra import has_hooks
from convfold.errors import Refusal
from convfold.graph.captured import Captured, Constant
from convfold.graph.conditions import guarded_by
from convfold.graph.program import Linear, Opaque

__all__ = ["closed_modules", "stubborn_norms", "why_not"]


def closed_modules(captured: Captured) -> dict[str, Refusal]:
    """The modules that stay as they are, by path, and why."""
    closed: dict[str, Refusal] = {}
    holders: dict[int, list[nn.Module]] = {}
    modules = dict(captured.model.named_modules())
    for module in modules.values():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(module)
    exposed = _exposed(captured)
    trains = any(module.training for module in modules.values())
    times = Counter(call.path for call in captured.calls)
    for path, module in modules.items():
        kind = type(module).__name__
        own = list(module.parameters(recurse=False))
        if path and guarded_by(module):
            reason, hint = "it was folded before, for some sizes only, which it checks", "Fold the original."
        elif path and has_hooks(module):
            reason, hint = "it has a hook, which may change or watch what it computes", "Remove the hook."
        elif path in exposed:
            reason, hint = "its weights are read outside of its own call too, so they may not change", ""
        elif hasattr(module, "parametrizations") and module.training:
            reason, hint = "its weight is parametrised and in training mode", "Call eval() on it first."
        elif trains and any(p.requires_grad and len(holders[id(p)]) > 1 for p in own):
            reason = "its weight is shared with another module and still trained"
            hint = "Call eval() first; the fold then clones it."
        elif trains and times[path] > 1 and any(p.requires_grad for p in own):
            reason = "it is called several times and still trained, so its calls may not come apart"
            hint = "Call eval() first; the fold then clones it."
        else:
            continue
        closed[path] = Refusal(kind, reason, path, hint)
    return closed


def _exposed(captured: Captured) -> set[str]:
    """The modules whose own weights are read by an operator that runs outside of their calls."""
    exposed: set[str] = set()
    paths = {call.number: call.path for call in captured.calls}
    called = set(paths.values())
    for value, step in captured.steps.items():
        home = paths[captured.home[value]]
        for leaf in tree_leaves((step.args, step.kwargs)):
            name = captured.names.get(leaf.key) if isinstance(leaf, Constant) else None
            owner = name.rpartition(".")[0] if name is not None else ""
            # A holder of tensors that is never called (a ParameterList) is part of the module that reads it.
            outside = owner in called and owner and home != owner and not home.startswith(f"{owner}.")
            if outside and not _holds(captured, home, leaf.key):
                exposed.add(owner)
    return exposed


def _holds(captured: Captured, path: str, key: Hashable) -> bool:
    """Whether the module at `path` holds the tensor itself as well: a tie."""
    tensor = captured.tensor(key)
    return any(own is tensor for own in captured.model.get_submodule(path).parameters(recurse=False))


def why_not(captured: Captured, values: Iterable[int]) -> tuple[int, Refusal, bool] | None:
    """The value for which a part may not be folded, why, and whether a fold raises for it.

    It does for a batch normalisation in training mode behind something linear, and for a tensor that is not finite.
    """
    touched = frozenset(v for v in values if v in captured.home)
    paths = {call.number: call.path for call in captured.calls}
    for value in sorted(touched):
        path = paths[captured.home[value]]
        module = captured.model.get_submodule(path)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            reason = "it is in training mode, where it uses the statistics of each batch"
            node = captured.program.nodes[value]
            behind = any(isinstance(captured.program.nodes.get(s), Linear) for s in node.inputs)
            return value, Refusal(type(module).__name__, reason, path, "Call eval() on the model first."), behind
    for value in sorted(touched):
        step = captured.steps.get(value)
        for leaf in tree_leaves((step.args, step.kwargs)) if step is not None else ():
            name = captured.names.get(leaf.key) if isinstance(leaf, Constant) else None
            if name is not None and (why := _not_finite(captured, leaf.key, name)) is not None:
                return value, why, True
    return None


def stubborn_norms(captured: Captured) -> list[Refusal]:
    """The batch normalisations behind something linear that use the statistics of each batch in eval mode too."""
    paths = {call.number: call.path for call in captured.calls}
    found = []
    for value, node in captured.program.nodes.items():
        if not isinstance(node, Opaque) or captured.program.values[value].place.operator != "batch_norm":
            continue
        path = paths[captured.home[value]]
        module = captured.model.get_submodule(path)
        keeps = getattr(module, "running_mean", None) is not None
        if keeps and any(isinstance(captured.program.nodes.get(source), Linear) for source in node.inputs):
            reason = "it is in training mode, where it uses the statistics of each batch"
            found.append(Refusal(type(module).__name__, reason, path, "Its eval() leaves it there: mend its class."))
    return found


def _not_finite(captured: Captured, key: object, name: str) -> Refusal | None:
    tensor = captured.tensor(key)
    # A sum is quick, and finite only where all of its terms are; it may overflow on its own.
    if not tensor.is_floating_point() or tensor.is_meta or bool(tensor.detach().sum().isfinite()):
        return None
    count = int((~torch.isfinite(tensor)).sum())
    if not count:
        return None
    shape = tuple(tensor.shape)
    reason = f"{count} of its {tensor.numel()} values in a tensor of shape {shape} are not finite"
    hint = "Repair the weights (a diverged training?) before folding."
    return Refusal("kernel", reason, name.rpartition(".")[0], hint)
