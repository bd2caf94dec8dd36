"""Random ONNX files: graphs over everything that a fold reads, as exporters write them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from support.onnx_random_builder import NEWEST, OPSETS, Array, Builder, run_model
from support.onnx_random_motifs import DRAWN, start

__all__ = ["RandomFile", "random_file"]

TRIALS, ELSEWHERE = 20, 10**6


class NotRun(Exception):
    """ONNX Runtime does not run the whole graph with its optimisations."""


@dataclass
class RandomFile:
    """A model, inputs of its example sizes, perhaps of others, and what it is made of."""

    seed: int
    model: onnx.ModelProto
    feeds: dict[str, Array]
    others: dict[str, Array] | None
    labels: frozenset[str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.feeds.items()}

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"seed {self.seed}, {shapes}\n{onnx.printer.to_text(self.model)}"


def random_file(seed: int, most: int | None = None) -> RandomFile:
    """The file of that number; with `most`, only its first so many structures.

    ONNX Runtime's own optimisations spoil some files; another is then drawn.
    """
    for attempt in range(TRIALS):
        try:
            return _drawn(seed, seed + ELSEWHERE * attempt, most)
        except NotRun:
            continue
    raise AssertionError(f"ONNX Runtime runs none of {TRIALS} files of seed {seed}")


def _drawn(number: int, seed: int, most: int | None) -> RandomFile:
    rng = random.Random(seed)
    opset = rng.choice(OPSETS)
    dtype = rng.choices([np.float32, np.float64, np.float16], [8, 1, 1])[0]
    opened = rng.random() < 0.4
    dims = rng.choices([1, 2, 3], [15, 70, 15])[0]
    b = Builder(seed, opset, dtype, opened, dims)
    sizes = [rng.randint(5, 8) if dims < 3 else rng.randint(3, 5) for _ in range(dims)]
    if dtype == np.float64:
        # ONNX Runtime has few operators in it.
        b.input("x", b.normal(2, 4, 6), "tokens")
        b.input("z", b.normal(2, 5), "vector")
    else:
        batch = rng.randint(1, 2)
        b.input("x", b.normal(batch, rng.randint(2, 6), *sizes), "map")
        if b.chance(0.25):
            b.input("z", b.normal(batch, rng.randint(2, 6), *sizes), "map")
    planned = rng.randint(2, 6)
    weights, draws = zip(*DRAWN, strict=True)
    for _ in range(planned if most is None else min(most, planned)):
        b.try_many(lambda: b.rng.choices(draws, weights)[0](b))
    if len(b.layouts) <= len(b.inputs):
        b.try_many(lambda: start(b))
    return _finished(b, number, random.Random(-1 - seed))


def _finished(b: Builder, seed: int, rng: random.Random) -> RandomFile:
    outputs = _outputs(b, rng)
    nodes = list(b.nodes) if rng.random() < 0.1 else _needed(b, outputs)
    read = {name for node in nodes for name in _reads(node)} | set(outputs)
    inputs = [name for name in b.inputs if name in read or name == "x"]
    if rng.random() < 0.3:
        for node in nodes:
            node.name = ""
    feeds = {name: b.arrays[name] for name in inputs}
    model = _model(b, nodes, inputs, outputs, read, rng, b.open)
    others = None
    if b.open:
        others = _longer(b, feeds)
        try:
            run_model(model, others)
        except Exception:  # a graph that has one size only
            others = None
            model = _model(b, nodes, inputs, outputs, read, rng, False)
    try:
        run_model(model, feeds, optimised=True)
    except Exception as error:  # whatever ONNX Runtime makes of it
        raise NotRun from error
    labels = {label for node in nodes for name in node.output for label in b.labels.get(name, ())}
    return RandomFile(seed, model, feeds, others, frozenset(labels | _flavour(b, model, others)))


def _flavour(b: Builder, model: onnx.ModelProto, others: Any) -> set[str]:
    listed = {f"opset {b.opset}", str(b.dtype), f"{b.dims}d maps", f"IR {model.ir_version}"}
    listed |= {"open sizes"} if others is not None else {"fixed sizes"}
    return listed | ({"several outputs"} if len(model.graph.output) > 1 else set())


def _longer(b: Builder, feeds: dict[str, Array]) -> dict[str, Array]:
    """Inputs of other open sizes."""
    found = {}
    for name, array in feeds.items():
        shape = array.shape
        if b.layouts.get(name) == "map":
            shape = (shape[0] + 1, shape[1], *(size + 2 * place + 2 for place, size in enumerate(shape[2:])))
        elif b.layouts.get(name) in ("tokens", "vector"):
            shape = (shape[0] + 1, *shape[1:])
        found[name] = b.normal(*shape) if array.dtype == b.dtype else array
    return found


def _reads(node: onnx.NodeProto) -> list[str]:
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            found += _reads(inner)
    return found


def _outputs(b: Builder, rng: random.Random) -> list[str]:
    """The last value, some of those that nothing reads, and now and then one that something does."""
    read = {name for node in b.nodes for name in _reads(node)}
    made = [name for name in b.layouts if name not in b.inputs]
    loose = [name for name in made[:-1] if name not in read]
    found = [made[-1], *rng.sample(loose, min(len(loose), rng.choice([0, 1, 3])))]
    if rng.random() < 0.25:
        found.append(rng.choice(made))
    return list(dict.fromkeys(found))


def _needed(b: Builder, outputs: list[str]) -> list[onnx.NodeProto]:
    wanted, kept = set(outputs), []
    for node in reversed(b.nodes):
        if wanted & set(node.output):
            wanted |= set(_reads(node))
            kept.append(node)
    return kept[::-1]


def _model(
    b: Builder, nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str], read: set[str], rng: random.Random,
    opened: bool,
) -> onnx.ModelProto:  # fmt: skip
    rng = random.Random(rng.random())
    held = {name: array for name, array in b.initialisers.items() if name in read or rng.random() < 0.02}
    old = b.opset == 9 and rng.random() < 0.5
    infos = [_input(b, name, opened) for name in inputs]
    if old:
        infos += [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in held.items()
        ]
    ends = [_output(b, name, opened) for name in outputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "a graph", infos, ends, tensors, doc_string="of many")
    version = 3 if old else rng.choice([8, 9, 10]) if b.opset < NEWEST else 12
    imports = [helper.make_opsetid("", b.opset), helper.make_opsetid("com.microsoft", 1)][: rng.randint(1, 2)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=version, producer_name="by chance")
    if rng.random() < 0.3:
        helper.set_model_props(model, {"author": "nobody", "stride": "2"})
    if rng.random() < 0.4 and not old:
        model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _input(b: Builder, name: str, opened: bool) -> onnx.ValueInfoProto:
    shape: list[Any] = list(b.shape(name))
    if opened and shape:
        shape[0] = "batch"
        if b.layouts.get(name) == "map":
            shape[2:] = [f"size {place}" for place in range(len(shape) - 2)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(b.arrays[name].dtype), shape)


def _output(b: Builder, name: str, opened: bool) -> onnx.ValueInfoProto:
    shape: list[Any] = list(b.shape(name))
    if opened:
        shape = [f"{name} {axis}" if axis != 1 or b.layouts[name] != "map" else size for axis, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(b.arrays[name].dtype), shape)
