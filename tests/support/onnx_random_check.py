"""A random ONNX file folded, and held to the original: values against float64, costs, and all that stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from convfold.errors import InvalidArgument
from convfold.graph.onnx.evaluate import evaluate
from convfold.transform.fold_onnx import fold_onnx
from support.onnx_random_builder import Array, run_model
from support.onnx_random_graphs import RandomFile
from support.random_figures import COSTS, Mismatch, Outcome

__all__ = ["CEILINGS", "check_file"]

# Of the distance from float64, relative to the largest output; or else so many times the original's own.
CEILINGS = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-2}
TIMES = 16.0
# An original that is so many ceilings off has no reference.
DOUBTFUL = 10.0
# Outputs may cancel: the scale is not less than this share of the inputs'.
LEAST_SCALE = 1e-3
SAME = ("opset_import", "metadata_props", "ir_version", "producer_name", "doc_string", "functions")


def check_file(file: RandomFile, folder: Path, twice: bool = False) -> Outcome:
    """Fold the file and compare; with `twice`, fold the outcome again. Raises Mismatch, or what folding raises."""
    path, out = folder / "graph.onnx", folder / "folded.onnx"
    path.write_bytes(file.model.SerializeToString())
    before = hashlib.sha256(path.read_bytes()).digest()
    folded = fold_onnx(path, out, file.shapes)
    if hashlib.sha256(path.read_bytes()).digest() != before:
        raise Mismatch("the file was changed")
    if not folded.certificate:
        raise Mismatch(f"the certificate is not equal: {folded.certificate}")
    for refusal in folded.plan.refusals:
        # What is rolled back was planned wrong or written wrong; a user is safe from it, this test is not.
        if refusal.operator == "region" or "report" in refusal.hint:
            raise Mismatch(f"rolled back: {refusal}")
    found = onnx.load(out)
    onnx.checker.check_model(found, full_check=True)
    _check_same(file.model, found)
    error, other = _error(file, found, file.feeds), "not run"
    if file.others is not None:
        error, other = max(error, _error(file, found, file.others)), "equal"
    costs = [tuple(getattr(totals, name) for name in COSTS) for totals in (folded.plan.before, folded.plan.after)]
    for name, was, now in zip(COSTS, *costs, strict=True):
        if now > was:
            raise Mismatch(f"more {name}: {was} -> {now}")
    if len(found.graph.node) > len(file.model.graph.node):
        raise Mismatch(f"more nodes: {len(file.model.graph.node)} -> {len(found.graph.node)}")
    second = "not done"
    if twice:
        again = fold_onnx(out, folder / "again.onnx", file.shapes)
        later = tuple(getattr(again.plan.after, name) for name in COSTS)
        if any(now > was for was, now in zip(costs[1], later, strict=True)):
            raise Mismatch(f"folding again changes {costs[1]} to {later}")
        # The search is local: from another start it may come further down.
        second = "the same" if later == costs[1] else "cheaper"
    return Outcome(error, *costs, other_batch="not run", other_size=other, second=second)


def _check_same(one: onnx.ModelProto, two: onnx.ModelProto) -> None:
    for name in SAME:
        if getattr(one, name) != getattr(two, name):
            raise Mismatch(f"{name} was changed: {getattr(one, name)} -> {getattr(two, name)}")
    for name in ("name", "doc_string", "output", "metadata_props"):
        if getattr(one.graph, name) != getattr(two.graph, name):
            raise Mismatch(f"the graph's {name} was changed")
    # Of old files constants are inputs by form.
    inputs = [[v for v in m.graph.input if v.name not in {t.name for t in m.graph.initializer}] for m in (one, two)]
    if inputs[0] != inputs[1]:
        raise Mismatch("the graph's inputs were changed")


def _error(file: RandomFile, folded: onnx.ModelProto, feeds: dict[str, Array]) -> float:
    """The largest error of an output of the folded file, in shares of what it may be at most times the ceiling."""
    own, found = run_model(file.model, feeds), run_model(folded, feeds)
    names = [value.name for value in file.model.graph.output]
    try:
        exact = evaluate(ir.serde.deserialize_model(file.model), feeds)
    except InvalidArgument:
        exact = dict(zip(names, own, strict=True))
    least = LEAST_SCALE * max(float(np.abs(x.astype(np.float64)).max()) for x in feeds.values())
    worst = 0.0
    for name, a, b in zip(names, own, found, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Mismatch(f"output {name} is {b.dtype} {list(b.shape)}, not {a.dtype} {list(a.shape)}")
        reference, ceiling = np.asarray(exact[name], np.float64), CEILINGS[str(a.dtype)]
        if reference.shape != a.shape or not _distance(a, reference, least) <= DOUBTFUL * ceiling:
            # ONNX Runtime reads some operator in another way than onnx does.
            reference = a.astype(np.float64)
        own_error, error = _distance(a, reference, least), _distance(b, reference, least)
        if not error <= max(ceiling, TIMES * own_error):
            sizes = ", ".join(str(list(x.shape)) for x in feeds.values())
            raise Mismatch(f"output {name}: error {error:.2e}, the original's {own_error:.2e}, on inputs {sizes}")
        worst = max(worst, error)
    return worst


def _distance(array: Array, reference: Array, least: float) -> float:
    """The largest difference, relative to the largest number of the reference."""
    scale = max(float(np.abs(reference).max()), least)
    return float(np.abs(array.astype(np.float64) - reference).max()) / scale
