"""expand: convolutions replaced by blocks that compute the same and train wider."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from convfold import blocks
from convfold.algebra import defines_op, has_hooks, has_op, op, twin
from convfold.algebra.readings.module import layout
from convfold.errors import ConvfoldError, InvalidArgument, InvalidType
from convfold.graph import Flow, flow_of
from convfold.graph.observe import module_paths
from convfold.plan.emit import nothing_like, replace_module
from convfold.plan.table import table

__all__ = ["Choice", "Expansion", "Where", "expand", "plan_expansion"]

Where = str | Callable[[str, nn.Module], bool] | None
_DIMS: dict[type, int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3, nn.Linear: 0}
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@dataclass(frozen=True)
class Choice:
    """What becomes of one layer: `block` (empty: nothing), with the batch norm at `norm`, and the `reason`.

    Where it is not `exact`, the block starts from its own initialisation.
    """

    path: str
    layer: str
    block: str
    norm: str
    reason: str
    exact: bool = True


@dataclass
class Expansion:
    """An expansion decided, not yet done. Print it; `apply` it."""

    choices: tuple[Choice, ...]
    block: str
    options: dict[str, Any]
    _model: nn.Module = field(repr=False)

    def apply(self, inplace: bool = False) -> nn.Module:
        """The wide model: a copy, or the model itself with `inplace`."""
        model = self._model if inplace else twin(self._model)
        for choice in self.choices:
            if choice.block:
                layer = model.get_submodule(choice.path)
                norm = model.get_submodule(choice.norm) if choice.norm else None
                wide = _widened(layer, norm, self.block, self.options, choice.exact)
                model = replace_module(model, choice.path, wide)
                if norm is not None:
                    model = replace_module(model, choice.norm, nothing_like(norm))
        return model

    def __str__(self) -> str:
        rows = [
            (c.path or "(the model)", c.layer, c.block or "left alone", c.norm or "-", c.reason) for c in self.choices
        ]
        return table(("layer", "type", "becomes", "takes in", "note"), rows)


def expand(
    model: nn.Module,
    block: str,
    where: Where = None,
    example_inputs: object = None,
    inplace: bool = False,
    exact: bool = True,
    **options: Any,
) -> nn.Module:
    """Replace convolutions by the block of that name: ``expand(model)(x) = model(x)``, with more to train.

    Unchanged in eval mode for every block; in training mode too for doconv and expandnet, and where a block
    with batch normalisations takes in the one that alone reads the convolution. Mode, dtype, device, memory
    format, hooks and whether a layer is trained are kept. `where` chooses layers by a glob over module names or
    a predicate ``(name, module) -> bool``; without it every convolution is taken that the block has something
    to add to. `example_inputs` let convolution and batch normalisation be paired by a recorded run instead of
    a symbolic trace. With ``exact=False`` a layer whose kernel the block cannot start from gets a new function.
    `options` go to the block. See `plan_expansion` for the choice as a table, before anything is touched.

    Raises UnknownName for the block, InvalidArgument when nothing is chosen or an option does not fit.
    """
    return plan_expansion(model, block, where, example_inputs, exact, **options).apply(inplace)


def plan_expansion(
    model: nn.Module,
    block: str,
    where: Where = None,
    example_inputs: object = None,
    exact: bool = True,
    **options: Any,
) -> Expansion:
    """Decide an expansion: which layer becomes what, which stays and why. Nothing is touched; print the result.

    Arguments and errors are those of `expand`.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("expand reads modules", got=type(model).__name__, expected="torch.nn.Module")
    chosen = _layers(model, block, where)
    flow = flow_of(model, example_inputs)
    choices = tuple(_choose(model, path, block, where, flow, exact, options) for path in chosen)
    if not any(choice.block for choice in choices):
        reasons = "; ".join(f"{c.path or 'the model'}: {c.reason}" for c in choices[:5])
        raise InvalidArgument(
            f"no layer can become {block}",
            where=type(model).__name__,
            got=reasons,
            hint="Choose another block or where=.",
        )
    return Expansion(choices, block, options, model)


def _layers(model: nn.Module, block: str, where: Where) -> list[str]:
    """The paths of the layers that `where` chooses among all convolutions and Linear layers."""
    supported = {dims for dims in range(4) if _exists(block, dims)}
    inside: list[str] = []
    layers: dict[str, nn.Module] = {}
    for module, path in module_paths(model).items():
        if any(outer == "" or path.startswith(f"{outer}.") for outer in inside):
            continue
        if defines_op(module):
            inside.append(path)  # a block already
        elif isinstance(module, (*_DIMS, *_TRANSPOSED)):
            layers[path] = module
    wanted = [dims for kind, dims in _DIMS.items() if dims in supported]
    kinds = tuple(kind for kind, dims in _DIMS.items() if dims in wanted)
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
    if isinstance(where, str):
        found = [path for path in layers if fnmatchcase(path, where)]
    elif callable(where):
        found = [path for path, module in layers.items() if where(path, module)]
    else:
        raise InvalidType(
            "where is neither a glob nor a predicate",
            got=type(where).__name__,
            expected="str or (name, module) -> bool",
        )
    if not found:
        near = difflib.get_close_matches(str(where), list(layers), 3, 0.3) or list(layers)[:3]
        raise InvalidArgument(
            "where matches no layer", got=repr(where), hint=f"Layers are named like {', '.join(near)}."
        )
    return found


def _exists(block: str, dims: int) -> bool:
    if block not in blocks.names():
        blocks.find(block, dims)  # raises, offering the nearest names
    try:
        blocks.find(block, dims)
    except InvalidArgument:
        return False
    return True


def _impossible(model: nn.Module, layer: nn.Module, block: str) -> str:
    """Why no block may stand for this layer, or an empty string."""
    dims = _DIMS.get(type(layer))
    if isinstance(layer, _TRANSPOSED):
        return "a transposed convolution is not in the block's class"
    if hasattr(layer, "parametrizations"):
        return "its weight is parametrised"
    if dims is None:
        return f"{type(layer).__name__} computes something of its own"
    if not _exists(block, dims):
        return f"{block} has no form for {dims} dimensions"
    own = set(layer.parameters())
    if any(own & set(m.parameters(recurse=False)) for m in model.modules() if m is not layer):
        return "its weight is shared with another module"
    return ""


def _choose(
    model: nn.Module, path: str, block: str, where: Where, flow: Flow, exact: bool, options: dict[str, Any]
) -> Choice:
    layer = model.get_submodule(path)
    kind = repr(layer) if isinstance(layer, tuple(_DIMS)) else type(layer).__name__
    reason = _impossible(model, layer, block)
    if path in flow.exposed:
        reason = "its weights are read outside of its own call too"
    if reason:
        return Choice(path, kind, "", "", reason)
    cls = blocks.find(block, _DIMS[type(layer)])
    unsuited = cls.unsuited(layer) if where is None else ""
    if unsuited:
        return Choice(path, kind, "", "", unsuited)
    norm = _norm_of(model, path, flow) if cls.has_norm and options.get("norm", "bn") == "bn" else ""
    hollow = twin(layer).to("meta")
    try:
        wide = _widened(hollow, twin(model.get_submodule(norm)).to("meta") if norm else None, block, options)
    except ConvfoldError as error:
        if exact or not _builds(hollow, block, options):
            return Choice(path, kind, "", "", str(error))
        return Choice(path, kind, cls.__name__, "", "a new function: it cannot start from this kernel", exact=False)
    both = bool(norm) or not _norms(wide)
    both = both and not any(_norms(m) for m in wide.modules() if isinstance(m, blocks.Block) and m is not wide)
    return Choice(path, kind, cls.__name__, norm, "same function" if both else "same function in eval mode only")


def _norms(module: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def _norm_of(model: nn.Module, path: str, flow: Flow) -> str:
    """The batch normalisation that alone reads the layer at `path`, if neither is watched by a hook."""
    reader = flow.reader(path)
    if reader is None:
        return ""
    norm, layer = model.get_submodule(reader), model.get_submodule(path)
    plain = isinstance(norm, nn.modules.batchnorm._BatchNorm) and has_op(norm) and norm.affine
    # A hook on the convolution sees what the batch normalisation reads; after pairing that value is gone.
    if not plain or has_hooks(norm) or has_hooks(layer):
        return ""
    return reader if norm.num_features == op(layer).out_channels else ""


def _arguments(layer: nn.Module, bias: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    weight = next(layer.parameters())
    placement = {"device": weight.device, "dtype": weight.dtype, "bias": bias}
    if isinstance(layer, nn.Linear):
        return (layer.in_features, layer.out_features), placement
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    placement["padding_mode"] = layer.padding_mode
    return tuple(getattr(layer, name) for name in names), placement


def _builds(layer: nn.Module, block: str, options: dict[str, Any]) -> bool:
    try:
        _built(layer, True, block, options)
    except ConvfoldError:
        return False
    return True


def _built(layer: nn.Module, bias: bool, block: str, options: dict[str, Any]) -> blocks.Block:
    arguments, placement = _arguments(layer, bias)
    return blocks.build(block, _DIMS[type(layer)], *arguments, **placement, **options)


def _widened(
    layer: nn.Module, norm: nn.Module | None, block: str, options: dict[str, Any], exact: bool = True
) -> nn.Module:
    """The block that computes ``norm(layer(x))``, in the layer's own mode, precision, place and layout."""
    weight: torch.nn.Parameter = layer.weight  # type: ignore[assignment]
    bias: torch.nn.Parameter | None = layer.bias  # type: ignore[assignment]
    wide = _built(layer, bias is not None and norm is None, block, options).train(layer.training)
    wide.requires_grad_(weight.requires_grad)
    if isinstance(norm, nn.SyncBatchNorm):
        wide = nn.SyncBatchNorm.convert_sync_batchnorm(wide, norm.process_group)
    if exact:
        # The norm is taken in with flags of its own: it may be frozen where the kernel is not.
        wide.start(weight.detach(), None if bias is None else bias.detach(), norm)
    wide = wide.to(memory_format=layout(weight))  # type: ignore[call-overload]
    for name in _HOOKS:
        getattr(wide, name).update(getattr(layer, name, None) or {})
    return wide
