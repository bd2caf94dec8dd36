"""Each redefined tensor of a file against the original's, in float64, on random values of what it is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from convfold.errors import InvalidArgument
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.evaluate import evaluate
from convfold.graph.program import Linear, Node, Program, is_identity
from convfold.graph.weights import Weights
from convfold.plan.emission.grounds import behind, between, grounds
from convfold.plan.emission.magnitude import length, magnitude
from convfold.plan.onnx.emit import emit
from convfold.verify.certificate import Certificate, Probe, compare, gamma

__all__ = ["check"]

_SCALE = "the sum of the absolute terms"
_HEAVY = 2**25


@dataclass(frozen=True)
class _Pair:
    before: Program
    after: Program


def check(captured: CapturedFile, after: Program) -> dict[int, Certificate]:
    """For each redefined tensor, how its new nodes compare with the old ones: weights in float64, before the cast.

    ``|before - after| <= gamma_L * S`` with S a bound of the sum of the absolute terms, L the roundings on both ways
    (see `convfold.verify.linear.certify`). Left out are tensors that no float64 reference gives, and those of kernels
    above 128 MiB in float32, of which a fold never holds as much as float64 would take: the runtime's runs prove them.
    """
    wide = replace(after, values=[replace(value, dtype="float64") for value in after.values])
    casts = _same_type(captured)
    model = _without(casts, emit(captured, wide))
    captured = replace(captured, model=_without(casts, captured.model.clone())) if casts else captured
    programs, count = _Pair(captured.program, after), len(captured.program.values)
    found = {}
    for value in after.live():
        node = after.nodes.get(value)
        if node is None or value >= count or node is captured.program.nodes.get(value):
            continue
        if _is_heavy(node):
            continue
        certificate = _compared(captured, programs, model, value)
        if certificate is not None:
            found[value] = certificate
    return found


def _same_type(captured: CapturedFile) -> frozenset[str]:
    """The casts to 16 bits of what has the type already."""
    program, names = captured.program, captured.names
    kinds = {names[n]: node.op_type for n, node in captured.nodes.items() if n in names and n in program.nodes}
    return frozenset(
        names[n]
        for n, node in program.nodes.items()
        if kinds.get(names.get(n, "")) in ("Cast", "CastLike") and is_identity(node) and "16" in program.values[n].dtype
    )


def _without(casts: frozenset[str], model: ir.Model) -> ir.Model:
    """The model with those casts turned into copies: in float64, where all types are one, they would round."""
    for node in model.graph:
        if node.outputs and node.outputs[0].name in casts and node.op_type in ("Cast", "CastLike"):
            node.op_type = "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
    return model


def _is_heavy(node: Node) -> bool:
    return isinstance(node, Linear) and any(term.map.parameters > _HEAVY for term in node.terms if term.map.dense)


def _compared(captured: CapturedFile, programs: _Pair, model: ir.Model, value: int) -> Certificate | None:
    inside, roots = behind(programs, value)
    found: Certificate | None = None
    for ground, alone in grounds(programs, value, roots):
        new = _on(captured, programs, model, value, inside, roots, ground)
        found = found if new is None else new
        # What holds for values drawn apart holds for those that belong together; the converse is not true.
        if found or (new is not None and alone):
            break
    return found


def _on(
    captured: CapturedFile,
    programs: _Pair,
    model: ir.Model,
    value: int,
    inside: list[int],
    roots: list[int],
    ground: list[int],
) -> Certificate | None:
    """The comparison on random values of `ground`; None where one of the two has no reference."""
    generator = np.random.default_rng(value)
    names = captured.names
    known = {number: _draw(programs, number, generator) for number in ground if number in names}
    spans = between(programs, value, ground)
    wanted = [number for number in (*roots, *spans) if number in names and number not in known]
    try:
        feeds = {names[number]: array for number, array in known.items()}
        arrays = evaluate(captured.model, feeds, [names[number] for number in wanted])
        seen = {number: torch.from_numpy(np.ascontiguousarray(arrays[names[number]])) for number in wanted}
        seen |= {number: torch.from_numpy(array) for number, array in known.items()}
        fed = {names[root]: seen[root].numpy() for root in roots}
        got = evaluate(model, fed, [names[value]])[names[value]]
    except InvalidArgument:
        return None
    reference: Mapping[int, Any] = {**dict.fromkeys(spans), **seen}
    scale, path = magnitude(
        programs, value, spans, {n: seen[n] for n in ground if n in seen}, reference, Weights(captured.tensor)
    )
    rounds = 2 * path + length(programs, value, inside)
    other = torch.from_numpy(np.ascontiguousarray(got))
    shapes = tuple(tuple(array.shape) for array in known.values())
    error, border, interior = compare(seen[value], other, scale)
    probe = Probe("random", shapes, error, gamma(rounds), border, interior)
    return Certificate.of([probe], [None], _SCALE, "float64")


def _draw(programs: _Pair, number: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    value = programs.before.values[number]
    if "float" in value.dtype:
        return generator.standard_normal(value.shape)
    return generator.integers(0, 2, value.shape).astype(np.bool_ if value.dtype == "bool" else np.int64)
