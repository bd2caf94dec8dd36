"""expand: convolutions replaced by blocks that compute the same and train wider."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from convfold import blocks
from convfold.algebra import copy_hooks, has_hooks, has_op, op, twin
from convfold.algebra.readings.module import layout
from convfold.errors import ConvfoldError, InvalidArgument, InvalidType
from convfold.graph import Flow, flow_of
from convfold.plan.emit import nothing_like, replace_module
from convfold.plan.table import table
from convfold.transform.kinds import find
from convfold.transform.layers import DIMS, Where, choose_layers, expandable, impossible
from convfold.transform.recipe import Recipe

__all__ = ["Choice", "Expansion", "Where", "expand", "plan_expansion"]


@dataclass(frozen=True)
class Choice:
    """What becomes of one layer: the class `becomes` (empty: nothing), with the batch norm at `norm`, and the `reason`.

    `block` and `options` build it. Where it is not `exact`, it starts from its own initialisation.
    """

    path: str
    layer: str
    becomes: str
    norm: str
    reason: str
    block: str
    options: dict[str, Any] = field(default_factory=dict)
    exact: bool = True


@dataclass
class Expansion:
    """An expansion decided, not yet done. Print it; `apply` it."""

    choices: tuple[Choice, ...]
    _model: nn.Module = field(repr=False)

    def apply(self, inplace: bool = False) -> nn.Module:
        """The wide model: a copy, or the model itself with `inplace`."""
        model = self._model if inplace else twin(self._model)
        for choice in self.choices:
            if choice.becomes:
                layer = model.get_submodule(choice.path)
                norm = model.get_submodule(choice.norm) if choice.norm else None
                wide = _widened(layer, norm, choice.block, choice.options, choice.exact)
                model = replace_module(model, choice.path, wide)
                if norm is not None:
                    model = replace_module(model, choice.norm, nothing_like(norm))
        return model

    def __str__(self) -> str:
        rows = [
            (c.path or "(the model)", c.layer, c.becomes or "left alone", c.norm or "-", c.reason) for c in self.choices
        ]
        return table(("layer", "type", "becomes", "takes in", "note"), rows)


def expand(
    model: nn.Module,
    block: str | Recipe | os.PathLike[str],
    where: Where | Recipe = None,
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
    `options` go to the block.

    A `Recipe` in place of the block, or the path of its ``.toml`` file, mixes blocks by rule; given as `where`, its
    rules that name no block use `block`. See `plan_expansion` for the choice as a table, before anything is touched.

    Raises UnknownName for the block, InvalidArgument when nothing is chosen or an option does not fit.
    """
    return plan_expansion(model, block, where, example_inputs, exact, **options).apply(inplace)


def plan_expansion(
    model: nn.Module,
    block: str | Recipe | os.PathLike[str],
    where: Where | Recipe = None,
    example_inputs: object = None,
    exact: bool = True,
    **options: Any,
) -> Expansion:
    """Decide an expansion: which layer becomes what, which stays and why. Nothing is touched; print the result.

    Arguments and errors are those of `expand`.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("expand reads modules", got=type(model).__name__, expected="torch.nn.Module")
    wanted, asked = _wanted(model, block, where, options)
    flow = flow_of(model, example_inputs)
    choices = tuple(_choose(model, path, name, asked, flow, exact, own) for path, (name, own) in wanted.items())
    if not any(choice.becomes for choice in choices):
        reasons = "; ".join(f"{c.path or 'the model'}: {c.reason}" for c in choices[:5])
        names = ", ".join(sorted({choice.block for choice in choices}))
        raise InvalidArgument(
            f"no layer can become {names}",
            where=type(model).__name__,
            got=reasons,
            hint="Choose another block or where=.",
        )
    return Expansion(choices, model)


def _wanted(
    model: nn.Module, block: str | Recipe | os.PathLike[str], where: Where | Recipe, options: dict[str, Any]
) -> tuple[dict[str, tuple[str, dict[str, Any]]], bool]:
    """By path, the block and its options; and whether the layers were asked for one by one."""
    if isinstance(block, os.PathLike) or (isinstance(block, str) and block.endswith(".toml")):
        block = Recipe.load(block)
    recipe = where if isinstance(where, Recipe) else block if isinstance(block, Recipe) else None
    if recipe is None:
        assert isinstance(block, str)  # what is no recipe names a block
        chosen = choose_layers(model, block, where)  # type: ignore[arg-type]
        return dict.fromkeys(chosen, (block, options)), where is not None
    default = block if isinstance(block, str) else None
    layers = expandable(model)
    if not isinstance(where, Recipe) and where is not None:
        layers = {path: layers[path] for path in choose_layers(model, recipe.blocks(default)[0], where)}
    rules = recipe.assign(layers)
    names = dict(zip(recipe.rules, recipe.blocks(default), strict=True))
    return {path: (names[rule], {**options, **rule.options}) for path, rule in rules.items()}, True


def _choose(
    model: nn.Module, path: str, block: str, asked: bool, flow: Flow, exact: bool, options: dict[str, Any]
) -> Choice:
    layer = model.get_submodule(path)
    kind = repr(layer) if isinstance(layer, tuple(DIMS)) else type(layer).__name__
    reason = impossible(model, layer, block)
    if path in flow.exposed:
        reason = "its weights are read outside of its own call too"
    if reason:
        return Choice(path, kind, "", "", reason, block)
    cls = find(block, DIMS[type(layer)])
    unsuited = "" if asked else cls.unsuited(layer)
    if unsuited:
        return Choice(path, kind, "", "", unsuited, block)
    norm = _norm_of(model, path, flow) if cls.has_norm and options.get("norm", "bn") == "bn" else ""
    hollow = twin(layer).to("meta")
    try:
        taken = twin(model.get_submodule(norm)).to("meta") if norm else None
        wide = _widened(hollow, taken, block, options)
    except ConvfoldError as error:
        if exact or not _builds(hollow, block, options):
            return Choice(path, kind, "", "", str(error), block)
        new = "a new function: it cannot start from this kernel"
        return Choice(path, kind, cls.__name__, "", new, block, options, exact=False)
    nested = (m for m in wide.modules() if isinstance(m, blocks.Block) and m is not wide)
    both = (bool(norm) or not _norms(wide)) and not any(_norms(m) for m in nested) and cls.exact_in_training
    note = "same function" if both else "same function in eval mode only"
    return Choice(path, kind, cls.__name__, norm, note, block, options)


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


def _builds(layer: nn.Module, block: str, options: dict[str, Any]) -> bool:
    try:
        _built(layer, True, block, options)
    except ConvfoldError:
        return False
    return True


def _built(layer: nn.Module, bias: bool, block: str, options: dict[str, Any]) -> Any:
    weight = next(layer.parameters())
    cls = find(block, DIMS[type(layer)])
    return cls.in_place_of(layer, bias, {"device": weight.device, "dtype": weight.dtype}, **options)


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
    copy_hooks(layer, wide)
    return wide
