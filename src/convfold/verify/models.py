"""Whole models: compared in float64 on several inputs, held to the rounding error of the original itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves

from convfold.algebra import twin
from convfold.errors import InvalidArgument, InvalidType, NotEqual
from convfold.graph import ExampleInputs, describe
from convfold.graph import example_inputs as read_inputs
from convfold.graph.conditions import guarded_by
from convfold.graph.inputs import does_not_run
from convfold.verify.certificate import Certificate, Probe, as_double, compare

__all__ = ["verify"]

_SINGLE = torch.finfo(torch.float32).eps


def verify(a: nn.Module, b: nn.Module, example_inputs: object) -> Certificate:
    """Compare two models on the example inputs, on random ones, and on other sizes where both accept them.

    Both are run in eval mode and float64, on copies; neither model is touched. With a32 and a64 the
    original in float32 and in float64, u the rounding unit of the weights (the coarser of the two models)
    and L the longest reduction in either, the bound is

        max |a - b| <= 2 * sqrt(L) * (u / u32) * max |a32 - a64|:

    the original's own rounding error measures how much the network amplifies roundings that partly cancel
    (about sqrt(L) of L), and two models may each be off by as much as if none of them cancelled. Errors are
    relative to max |a64|. A bound for one linear region alone, without that estimate, is
    `convfold.verify.certify`.

    Raises NotEqual when outputs differ in structure, number or shape, and InvalidArgument when a model does
    not run on the inputs.
    """
    for name, model in (("a", a), ("b", b)):
        if not isinstance(model, nn.Module):
            raise InvalidType("verify compares modules", where=name, got=type(model).__name__)
    given = read_inputs(a, example_inputs)
    unit, dtype = _coarsest(a, b)
    roundings = 2 * math.sqrt(max(_reduction(a), _reduction(b)))
    a64, a32, b64 = _in(a, torch.float64), _in(a, torch.float32), _in(b, torch.float64)
    probes, tried = [], []
    for name, probe in _probes(given):
        outputs = _outputs(a, b, a64, a32, b64, probe, required=not probes)
        if outputs is None:
            continue
        shapes = tuple(tuple(t.shape) for t in tree_leaves((probe.args, dict(probe.kwargs))) if isinstance(t, Tensor))
        probes.append(_judge(name, shapes, *outputs, roundings * unit / _SINGLE, roundings * unit))
        tried.append((*probe.args, *probe.kwargs.values()))
    return Certificate.of(probes, tried, "the largest output", dtype)


def _coarsest(*models: nn.Module) -> tuple[float, str]:
    dtypes = {
        t.dtype for model in models for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()
    } or {torch.float64}
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return torch.finfo(coarsest).eps, str(coarsest).removeprefix("torch.")


def _reduction(model: nn.Module) -> int:
    """The most products that one output of a linear layer adds up."""
    return max((p[0].numel() for p in model.parameters() if p.dim() > 1 and p.numel()), default=1)


def _in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return twin(model).eval().to(dtype)


def _probes(given: ExampleInputs) -> list[tuple[str, ExampleInputs]]:
    """The inputs themselves, random ones, zeros, and random ones of larger maps."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor, more: int = 0) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        shape = [n + more if axis > 1 else n for axis, n in enumerate(tensor.shape)]
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(tensor.device)

    def zeros(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor) if tensor.is_floating_point() else tensor

    probes = [("example", given), ("random", given.map(noise)), ("zeros", given.map(zeros))]
    maps = [t for t in tree_leaves((given.args, dict(given.kwargs))) if isinstance(t, Tensor) and t.dim() > 2]
    if maps:
        probes += [("larger map", given.map(lambda t, more=more: noise(t, more))) for more in (1, 4)]  # type: ignore[misc]
    return probes


def _run(model: nn.Module, given: ExampleInputs, dtype: torch.dtype) -> Any:
    cast = given.map(lambda t: t.detach().to(dtype) if t.is_floating_point() else t.detach().clone())
    with torch.no_grad():
        return cast.call(model)


def _outputs(
    a: nn.Module,
    b: nn.Module,
    a64: nn.Module,
    a32: nn.Module,
    b64: nn.Module,
    given: ExampleInputs,
    required: bool,
) -> tuple[list[Any], list[Any], list[Any]] | None:
    """Flattened outputs, or None where the original does not take inputs of this size, or a fold of it says so."""
    try:
        wide = _run(a64, given, torch.float64)
        single = _run(a32, given, torch.float32)
    except Exception as error:
        if not required:
            return None
        raise does_not_run(a, given, error, "the first model does not run on these inputs") from error
    try:
        other = _run(b64, given, torch.float64)
    except Exception as error:
        if not required and isinstance(error, InvalidArgument) and any(map(guarded_by, b64.modules())):
            return None  # a fold that says for which sizes it holds; a size of its example is required
        raise does_not_run(b, given, error, "the second model does not run on these inputs") from error
    values, structure = tree_flatten(wide)
    others, other_structure = tree_flatten(other)
    if structure != other_structure:
        raise NotEqual("the outputs have different structures", got=str(other_structure), expected=str(structure))
    for index, (x, y) in enumerate(zip(values, others, strict=True)):
        if isinstance(x, Tensor) and (not isinstance(y, Tensor) or x.shape != y.shape):
            got = describe(y)
            raise NotEqual(f"output {index} has another shape", got=got, expected=describe(x))
    return values, tree_leaves(single), others


def _judge(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    wide: list[Any],
    single: list[Any],
    others: list[Any],
    factor: float,
    least: float,
) -> Probe:
    """The output of this probe that came closest to its bound."""
    worst: Probe | None = None
    for x, x32, y in zip(wide, single, others, strict=True):
        if not isinstance(x, Tensor):
            apart = 0.0 if x == y else math.inf
            x, x32, y = torch.zeros(1), torch.zeros(1), torch.full((1,), apart)
        # An infinite value (a masked logit) is compared exactly, and is no scale for the others.
        finite = as_double(x)[as_double(x).isfinite()].abs()
        scale = float(finite.max()) if finite.numel() else 1.0
        own = compare(x, x32, scale or 1.0)[0]
        error, border, interior = compare(x, y, scale or 1.0)
        bound = max(factor * own, least) if math.isfinite(own) else least
        probe = Probe(name, shapes, error, bound, border, interior)
        if worst is None or probe.error * worst.bound > worst.error * probe.bound:
            worst = probe
    return worst if worst is not None else Probe(name, shapes, 0.0, least, 0.0, 0.0)
