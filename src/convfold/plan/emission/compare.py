"""Each redefined value against the original's, in float64, on random values of what it is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from convfold.errors import InvalidArgument
from convfold.graph.capture.steps import interpret, run
from convfold.graph.captured import Captured, Constant, Ref
from convfold.graph.program import Concat, Linear, Program
from convfold.graph.weights import Weights
from convfold.plan.emission.change import Change
from convfold.plan.emission.executed import executed
from convfold.plan.emission.grounds import behind, between, grounds
from convfold.plan.emission.magnitude import length, magnitude
from convfold.plan.emission.repeat import repeated_step
from convfold.plan.emission.small import small_shapes
from convfold.verify.certificate import Certificate, Probe, compare, gamma

__all__ = ["check", "probe"]

_SCALE = "the sum of the absolute terms"


def check(captured: Captured, after: Program, emitted: Any, values: Iterable[int]) -> Certificate:
    """How the values of a region, redefined, compare with the original's: the certificate of the worst.

    Each was compared when it was emitted, its kernels in float64 before the cast, with what the original's own
    operators give for random values of what it is computed from now.
    """
    found = [emitted.certificates[value] for value in sorted(values) if value in emitted.certificates]
    probes = [p for certificate in found for p in certificate.probes]
    if not probes:
        return Certificate.of([Probe("nothing computed", (), 0.0, 0.0, 0.0, 0.0)], [None], _SCALE, "float64")
    return Certificate.of(probes, [None] * len(probes), _SCALE, "float64")


@torch.no_grad()
def probe(change: Change, value: int, weights: Weights) -> Certificate:
    """Compare the new definition of `value`, executed as it is emitted, with its original one.

    ``|before - after| <= gamma_L * S`` with S a bound of the sum of the absolute terms of the original, channel by
    channel, and L = 2*L_before + L_after roundings (see `convfold.verify.linear.certify`).
    """
    inside, roots = behind(change, value)
    found, near = _certificate({}, math.inf, 0.0, 0.0, 0.0), None
    for ground, alone in grounds(change, value, roots):
        near = ground if near is None else near
        new = _compared(change, value, inside, roots, near, ground, weights)
        found = found if new is None else new
        # What holds for values drawn apart holds for those that belong together; the converse is not true.
        if found or (new is not None and alone):
            break
    return found


def _compared(
    change: Change,
    value: int,
    inside: list[int],
    roots: list[int],
    near: list[int],
    ground: list[int],
    weights: Weights,
) -> Certificate | None:
    """The comparison on random values of `ground`; None where the original cannot be computed from these.

    The sum of the absolute terms is that of the values `near`, wherever these are computed from.
    """
    generator = torch.Generator().manual_seed(value)
    spans = between(change, value, near)
    small = small_shapes(change, value, inside, ground, spans) if ground == roots else {}
    # Where a constant has positions of its own, only the captured size will do.
    for sizes in [small, {}] if small else [{}]:
        known = {root: _draw(change, root, sizes, generator) for root in ground}
        try:
            before = interpret(change.captured, [value, *roots, *near], known, torch.float64)
        except (InvalidArgument, RuntimeError, IndexError):
            continue
        break
    else:
        return None
    known = {v: before[v] for v in (*near, *roots)}
    try:
        got = _evaluate(change, value, inside, known, weights)
    except RuntimeError:  # what is emitted does not run: a fault that is rolled back as any other
        got = None
    if got is None or got.shape != before[value].shape:
        return _certificate(known, math.inf, math.inf, math.inf, 0.0)
    scale, path = magnitude(change, value, spans, known, before, weights)
    rounds = 2 * path + length(change, value, inside)
    return _certificate(known, *compare(before[value], got, scale), gamma(rounds))


def _certificate(
    known: Mapping[int, Tensor], error: float, border: float, interior: float, bound: float
) -> Certificate:
    shapes = tuple(tuple(x.shape) for x in known.values())
    return Certificate.of([Probe("random", shapes, error, bound, border, interior)], [None], _SCALE, "float64")


def _draw(change: Change, root: int, sizes: dict[int, tuple[int, ...]], generator: torch.Generator) -> Tensor:
    shape = sizes.get(root, change.after.values[root].shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _evaluate(change: Change, value: int, inside: list[int], known: Mapping[int, Tensor], weights: Weights) -> Tensor:
    values: dict[int, Any] = dict(known)
    tensor, example = change.captured.tensor, change.captured.example

    def read(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return values[leaf.value]
        if isinstance(leaf, Constant):
            return tensor(leaf.key, torch.float64)
        return int(leaf.expression.xreplace(example))

    for current in inside:
        node = change.after.nodes[current]
        if isinstance(node, Linear):
            values[current] = executed(change.after, current, node, values, weights)
        elif isinstance(node, Concat):
            values[current] = torch.cat([values[piece] for piece in node.pieces], node.axis)
        else:
            values[current] = run(repeated_step(change, current, node), read, torch.float64)  # type: ignore[arg-type]
    return values[value]  # type: ignore[no-any-return]
