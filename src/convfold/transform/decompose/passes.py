"""Running data through a model, and through what has become of it so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import twin
from convfold.graph import ExampleInputs
from convfold.graph.inputs import does_not_run
from convfold.transform.decompose.data import Samples
from convfold.transform.decompose.layer import Layer
from convfold.transform.decompose.moments import Moments

__all__ = ["collect", "measure"]

Runs = list[tuple[Tensor, Tensor]]


@contextmanager
def _listening(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Runs]]:
    """Inputs and outputs of the modules at `paths`, filled by each forward pass."""
    heard: dict[str, Runs] = {path: [] for path in paths}

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            heard[path].append((x.detach(), out.detach()))

        return hook

    handles = [model.get_submodule(path).register_forward_hook(note(path), with_kwargs=True) for path in paths]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, batch: ExampleInputs) -> None:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            batch.call(model)
    except Exception as error:
        raise does_not_run(model, batch, error, "the model does not run on this data") from error


def _both(
    model: nn.Module, changed: nn.Module | None, paths: Sequence[str], batch: ExampleInputs
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Each run of each layer: its input, and the output that it should have where that is another model's."""
    with _listening(model, paths) as heard:
        _run(model, batch)
    if changed is None:
        for path in paths:
            yield from ((path, x, None) for x, _ in heard[path])
        return
    with _listening(changed, paths) as now:
        _run(changed, batch)
    for path in paths:
        for (x, _), (_, y) in zip(now[path], heard[path], strict=True):
            yield path, x, y


def collect(
    model: nn.Module, layers: Mapping[str, Layer], samples: Samples, changed: nn.Module | None = None
) -> dict[str, list[Moments]]:
    """The moments of each layer's inputs in `model`, by part of the data.

    With `changed` the inputs are those in that model, and the outputs to come close to are those of `model`. Raises
    InvalidArgument when the model does not run on the data.
    """
    copied = twin(model).eval()
    found = {path: [Moments.none(layer)] * len(samples.parts) for path, layer in layers.items()}
    for index, part in enumerate(samples.parts):
        for batch in part:
            for path, x, y in _both(copied, changed, list(layers), batch):
                found[path][index] = found[path][index] + Moments.of(layers[path], x, y)
    return found


def measure(
    model: nn.Module, layers: Mapping[str, nn.Module], samples: Samples, changed: nn.Module | None = None
) -> dict[str, float]:
    """``||y' - y|| / ||y||`` of each layer over all data, y' the outputs of what takes its place, both in float64."""
    copied = twin(model).eval()
    old = {path: _double(copied.get_submodule(path)) for path in layers}
    new = {path: _double(layer) for path, layer in layers.items()}
    gaps, sizes = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
    for part in samples.parts:
        for batch in part:
            for path, x, wanted in _both(copied, changed, list(layers), batch):
                with torch.no_grad():
                    x = x.to("cpu", torch.float64)
                    y = old[path](x) if wanted is None else wanted.to("cpu", torch.float64)
                    gaps[path] += float((new[path](x) - y).square().sum())
                sizes[path] += float(y.square().sum())
    return {path: (gaps[path] / sizes[path]) ** 0.5 if sizes[path] else 0.0 for path in layers}


def _double(module: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU, without hooks: they have been run once already."""
    copied = twin(module).to("cpu", torch.float64).eval()
    for inner in copied.modules():
        inner._forward_hooks.clear()
        inner._forward_pre_hooks.clear()
    return copied
