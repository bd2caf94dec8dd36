"""Data to fit to: read once, and parted so that what is reported was never fitted to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convfold.errors import InvalidArgument, InvalidType
from convfold.graph import ExampleInputs, example_inputs

__all__ = ["Samples", "read_data"]

PARTS = ("fit", "validation", "held_out")
# Of five samples in a row three are fitted to, one decides, one is held out: orders in time or by class go to all.
_PATTERN = (0, 0, 1, 0, 2)


@dataclass(frozen=True)
class Samples:
    """Batches of inputs by part, in the order of `PARTS`, and the number of samples in each."""

    parts: tuple[tuple[ExampleInputs, ...], ...]
    counts: tuple[int, int, int]

    @property
    def parted(self) -> bool:
        """Whether there is something in every part."""
        return all(self.counts)

    @property
    def one(self) -> ExampleInputs:
        """One sample, to see sizes with."""
        first = next(batch for part in self.parts for batch in part)
        return first if _length(first) is None else first.map(lambda tensor: tensor[:1])


def read_data(model: nn.Module, data: object) -> Samples:
    """Read `data`, a tensor of inputs, or an iterable of calls' inputs (a list, a DataLoader), and part it.

    Each item is a tensor, a dict of keyword inputs, or a tuple or list of positional ones, of which those that
    ``forward`` has no place for (the labels) are dropped. Items whose tensors share their first size are samples along
    it; others count as one sample each. Raises InvalidType for what is neither, InvalidArgument when there is nothing.
    """
    if isinstance(data, Tensor):
        items: list[object] = [data]
    elif isinstance(data, Iterable) and not isinstance(data, (str, bytes, Mapping)):
        items = list(data)
    else:
        raise InvalidType(
            "data is of the wrong type", got=type(data).__name__,
            expected="a tensor of inputs, a list of inputs, or a DataLoader of them",
        )  # fmt: skip
    batches = [_item(model, item) for item in items]
    parts: tuple[list[ExampleInputs], ...] = ([], [], [])
    counts = [0, 0, 0]
    seen = 0
    for batch in batches:
        length = _length(batch)
        places = torch.tensor([_PATTERN[(seen + i) % len(_PATTERN)] for i in range(1 if length is None else length)])
        seen += len(places)
        for part in range(len(PARTS)):
            chosen = (places == part).nonzero().flatten()
            if len(chosen):
                parts[part].append(batch if length is None else batch.map(_rows(chosen)))
                counts[part] += len(chosen)
    if not seen:
        raise InvalidArgument("data holds no sample", got=f"{len(items)} items", expected="at least one")
    return Samples(tuple(map(tuple, parts)), (counts[0], counts[1], counts[2]))


def _rows(chosen: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[chosen.to(tensor.device)]


def _item(model: nn.Module, item: object) -> ExampleInputs:
    if isinstance(item, (tuple, list)):
        item = tuple(item[: _positions(model)])
    if isinstance(item, Mapping):
        item = dict(item)
    return example_inputs(model, item)


def _positions(model: nn.Module) -> int | None:
    """How many positional inputs `forward` takes; None where any number."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except ValueError:
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _length(batch: ExampleInputs) -> int | None:
    """The first size that all tensors of a batch share."""
    leaves = tree_leaves((batch.args, dict(batch.kwargs)))
    sizes = {leaf.shape[0] if leaf.dim() > 1 else -1 for leaf in leaves if isinstance(leaf, Tensor)}
    return sizes.pop() if len(sizes) == 1 and min(sizes) >= 0 else None
