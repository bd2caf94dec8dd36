"""Which layers are looked at, and how often and on what sizes each runs."""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import twin
from convfold.errors import InvalidArgument
from convfold.graph import example_inputs
from convfold.graph.inputs import does_not_run
from convfold.transform.decompose.frame import Call
from convfold.transform.layers import Where, expandable, matching

__all__ = ["choose", "recorded"]


def choose(model: nn.Module, where: Where) -> dict[str, nn.Module]:
    """The layers that `where` chooses, by path; without it every convolution, but no Linear layer unless it is alone.

    Raises InvalidArgument when there is none, InvalidType for a `where` of another kind.
    """
    layers = expandable(model)
    convs = {path: layer for path, layer in layers.items() if not isinstance(layer, nn.Linear)}
    if where is None:
        found = layers if set(layers) == {""} else convs
        if not found:
            linear = f"{len(layers)} Linear layers" if layers else f"{len(list(model.modules()))} modules"
            hint = "Choose Linear layers by where=." if layers else "A model of blocks is folded first."
            raise InvalidArgument("no convolution is reached", where=type(model).__name__, got=linear, hint=hint)
        return found
    return matching(layers, where)


def recorded(model: nn.Module, inputs: object, paths: list[str]) -> dict[str, list[Call]]:
    """The runs of the layers at `paths` in one forward pass of a copy in eval mode, in order of the first run.

    Raises InvalidArgument when the model does not run on the inputs.
    """
    copied = twin(model).eval()
    given = example_inputs(copied, inputs)
    calls: dict[str, list[Call]] = defaultdict(list)

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            axes = 0 if isinstance(module, nn.Linear) else module.weight.dim() - 2  # type: ignore[operator]
            size = tuple(x.shape[x.dim() - axes :])
            channels = x.shape[-1] if not axes else x.shape[x.dim() - axes - 1]
            calls[path].append(Call(x.numel() // max(channels * prod(size), 1), size))

        return hook

    for path in paths:
        copied.get_submodule(path).register_forward_pre_hook(note(path), with_kwargs=True)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            given.call(copied)
    except Exception as error:
        raise does_not_run(model, given, error) from error
    return dict(calls)
