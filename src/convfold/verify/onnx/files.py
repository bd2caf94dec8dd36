"""Two ONNX files that shall compute the same: run in ONNX Runtime, held to the rounding error of the first."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from convfold.errors import InvalidArgument, NotEqual
from convfold.graph.onnx.evaluate import evaluate
from convfold.graph.onnx.evaluate_numbers import Array
from convfold.graph.onnx.read import read
from convfold.verify.onnx.certificate import FileCertificate, FileProbe
from convfold.verify.onnx.inputs import moved, random_inputs
from convfold.verify.onnx.judge import Outputs, check_same_form, is_plausible, judge, longest_reduction
from convfold.verify.onnx.session import Session, Signature, open_session

__all__ = ["verify_files"]

# Bytes of weights up to which there is a float64 reference, which takes twice as many at the least.
LARGE = 2**30
# Runs of the first file on inputs moved by a rounding: two show how far that carries; for an index that hangs on a
# rounding to be turned by one of them, as surely as not, there are more.
MOVES, TURNS = 2, 16


def verify_files(
    a: str | os.PathLike[str], b: str | os.PathLike[str], sizes: Sequence[Mapping[str, Sequence[int]]]
) -> FileCertificate:
    """Run both files on random inputs of each of `sizes` (a shape for each input) and compare the outputs.

    Names, types and shapes must be the same. Where `convfold.graph.onnx.evaluate` can compute `a` in float64 (weights
    of at most 1 GiB), with `own` the error of `a` against that, u the rounding unit of the output's type and L the
    longest reduction in either file, b is held to

        max |b - a64| <= 2 sqrt(L) * max(own, u):

    the original's own error tells how much the network amplifies roundings that partly cancel (about sqrt(L) of L),
    and b may be off by as much as if none cancelled. Where there is no such reference, or none near what `a` computes
    (operators that ONNX Runtime reads in another way), b is held to a itself by the same law, `own` being the largest
    distance of `a` from itself when it sums in another order (all optimisations of ONNX Runtime off) and when its
    inputs are moved by one rounding: two orders of summation are each as far from the exact sum as from each other.
    Errors are relative to the largest output. Indices, masks and texts must be the same but where those other runs of
    `a` turn them too.

    A size that `a` does not take is skipped. Raises InvalidArgument when it takes none, NotEqual when the files differ
    in form or b does not run where `a` does, and what `read` raises.
    """
    first, second = Path(a), Path(b)
    models = read(first), read(second)
    roundings = 2 * math.sqrt(longest_reduction(*models))
    lean = max(map(_weights, models)) > LARGE
    probes = [random_inputs(models[0], shapes, seed) for seed, shapes in enumerate(sizes)]
    with open_session(first, lean=lean) as session:
        form = session.inputs, session.outputs
        kept, outputs = _run_where_taken(session, probes)
    references = [None if lean else _reference(models[0], probe, own) for probe, own in zip(kept, outputs, strict=True)]
    gc.collect()
    with open_session(second, lean=lean) as session:
        _check_same_names(second, form, session)
        found = [_run_second(session, probe, second) for probe in kept]
    for own, other in zip(outputs, found, strict=True):
        check_same_form(str(second), own, other)
    others: list[list[Outputs]] = [[] for _ in kept]
    turned = _turned(outputs, found)
    if turned or any(reference is None for reference in references):
        with open_session(first, optimised=False, lean=lean) as session:
            seeds = range(TURNS if turned else MOVES)
            moves = [[probe, *(moved(probe, seed) for seed in seeds)] for probe in kept]
            others = [[session.run(feeds) for feeds in listed] for listed in moves]
    judged: list[FileProbe] = []
    for i, probe in enumerate(kept):
        shapes = tuple(value.shape for value in probe.values())
        judged.append(judge(f"random {i + 1}", shapes, outputs[i], found[i], references[i], others[i], roundings))
    whole = FileCertificate.of(judged, kept, "the largest output", _dtype(outputs[0]))  # type: ignore[arg-type]
    return FileCertificate(**{**whole.__dict__, "skipped": len(probes) - len(kept)})


def _weights(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)


def _run_where_taken(
    session: Session, probes: Sequence[dict[str, Array]]
) -> tuple[list[dict[str, Array]], list[Outputs]]:
    kept, outputs, refusal = [], [], None
    for probe in probes:
        try:
            outputs.append(session.run(probe))
        except InvalidArgument as error:
            refusal = error
        else:
            kept.append(probe)
    if not kept:
        raise refusal or InvalidArgument("at least one size is needed", where="sizes")
    return kept, outputs


def _reference(model: ir.Model, probe: dict[str, Array], own: Outputs) -> Outputs | None:
    """The outputs in float64, None where there is no telling."""
    if any(isinstance(value, np.ndarray) and value.dtype == np.float64 for value in own.values()):
        # No wider than the file itself.
        return None
    try:
        found = evaluate(model, probe)
    except InvalidArgument:
        return None
    reals = all(isinstance(found[name], np.ndarray) for name, value in own.items() if isinstance(value, np.ndarray))
    return found if reals and is_plausible(own, found) else None


def _run_second(session: Session, probe: dict[str, Array], where: Path) -> Outputs:
    try:
        return session.run(probe)
    except InvalidArgument as error:
        raise NotEqual(
            "the second file does not run where the first does", where=str(where),
            got=[list(array.shape) for array in probe.values()],
        ) from error  # fmt: skip


def _check_same_names(where: Path, form: tuple[list[Signature], list[Signature]], session: Session) -> None:
    for what, ours, theirs in zip(("inputs", "outputs"), form, (session.inputs, session.outputs), strict=True):
        for field in ("name", "type"):
            got = [getattr(value, field) for value in theirs]
            expected = [getattr(value, field) for value in ours]
            if got != expected:
                raise NotEqual(f"the {what} have other {field}s", where=str(where), got=got, expected=expected)
    for one, two in zip(form[0], session.inputs, strict=True):
        if one.shape != two.shape:
            raise NotEqual(f"input {one.name!r} has another shape", where=str(where), got=two.shape, expected=one.shape)


def _turned(outputs: Sequence[Outputs], found: Sequence[Outputs]) -> bool:
    """Whether an index, a mask or a text differs."""
    for own, other in zip(outputs, found, strict=True):
        for name, value in own.items():
            exact = isinstance(value, np.ndarray) and value.dtype.kind in "iubOSU"
            if exact and not np.array_equal(value, other[name]):
                return True
    return False


def _dtype(outputs: Outputs) -> str:
    kinds = {str(value.dtype) for value in outputs.values() if isinstance(value, np.ndarray)}
    return ", ".join(sorted(kinds))
