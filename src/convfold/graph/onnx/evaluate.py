"""The float64 reference: what an ONNX model computes where every real number is float64.

Weights are read when they are first used and freed after the last use, as is every value on the way. A cast to
float32 keeps float64; a cast to a type of 16 bits rounds, as the model asks for it. Operators are computed by torch or
numpy where speed or precision asks for that (`evaluate_operators`), by onnx's own implementations otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from convfold.errors import ConvfoldError, InvalidArgument
from convfold.graph.onnx.evaluate_numbers import Array, cast, widened
from convfold.graph.onnx.evaluate_operators import own_operator
from convfold.graph.onnx.evaluate_reference import REFUSED, OnnxOperator
from convfold.graph.onnx.nodes import inner_graphs, is_standard, opset_of, reads
from convfold.graph.onnx.read_parts import one_line, printable

__all__ = ["evaluate"]

# A loop with more steps than this is not followed in Python.
STEPS = 10_000

Attributes = Mapping[str, ir.Attr]


def evaluate(model: ir.Model, feeds: Mapping[str, Array], wanted: Iterable[str] | None = None) -> dict[str, Array]:
    """The tensors named `wanted` (by default the outputs) of a model run on `feeds`, real ones in float64.

    A feed may be any tensor of the main graph: what it is computed from is then not looked at.

    Raises InvalidArgument for missing or unknown names, and where an operator has no float64 reference: random ones,
    those of other domains than onnx's, and those that onnx's implementation does not take.
    """
    values = {value.name: value for value in _values(model.graph)}
    names = [value.name or "" for value in model.graph.outputs] if wanted is None else list(wanted)
    for name in names:
        if name not in values:
            raise InvalidArgument("no tensor of the graph has this name", where="wanted", got=repr(printable(name)))
    for name in feeds:
        if name not in values:
            raise InvalidArgument("no tensor of the graph has this name", where="feeds", got=repr(printable(name)))
    environment = {values[name]: widened(np.asarray(array)) for name, array in feeds.items()}
    ends = [values[name] for name in names]
    needed = {value for node in _needed(model.graph, ends, environment) for value in reads(node)} | set(ends)
    inputs = [v for v in model.graph.inputs if v in needed and v not in environment and v.const_value is None]
    if inputs:
        missing = [value.name for value in inputs]
        raise InvalidArgument("an input of the model is not given", where="feeds", expected=missing)
    run = _Run(model)
    with np.errstate(all="ignore"):
        found = run.graph(model.graph, environment, ends, {}, model.opset_imports)
    return dict(zip(names, found, strict=True))


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _where(node: ir.Node) -> str:
    return printable(node.name or next((value.name for value in node.outputs if value.name), "") or node.op_type)


def _no_reference(node: ir.Node, why: str = "") -> InvalidArgument:
    kind = f"{node.domain}::{node.op_type}" if not is_standard(node) else node.op_type
    return InvalidArgument(
        f"the operator has no float64 reference{why and f' ({why})'}", where=_where(node), got=printable(kind)
    )


class _Run:
    """One evaluation. Values are kept by identity, so that subgraphs find those of the graphs around them."""

    def __init__(self, model: ir.Model) -> None:
        self._functions = model.functions
        self._operators: dict[ir.Node, OnnxOperator] = {}

    def graph(
        self,
        graph: ir.Graph,
        environment: dict[ir.Value, Any],
        wanted: list[ir.Value],
        given: Attributes,
        opsets: Mapping[str, int],
    ) -> list[Any]:
        """The values `wanted` of a graph; what it reads from outside is in `environment`, which gets nothing back."""
        local = dict(environment)
        nodes = _needed(graph, wanted, local)
        last: dict[ir.Value, int] = {}
        for index, node in enumerate(nodes):
            last.update(dict.fromkeys(reads(node), index))
            last.update(dict.fromkeys((value for value in node.outputs if value not in last), index))
        over: dict[int, list[ir.Value]] = {}
        for value, index in last.items():
            over.setdefault(index, []).append(value)
        kept = set(wanted)
        for index, node in enumerate(nodes):
            for value, result in zip(node.outputs, self._node(node, local, given, opsets), strict=False):
                if value not in environment:  # another result of the node may be given
                    local[value] = result
            for value in over.get(index, ()):
                if value not in kept:
                    local.pop(value, None)
        return [_read(value, local) for value in wanted]

    def _node(
        self, node: ir.Node, environment: dict[ir.Value, Any], given: Attributes, opsets: Mapping[str, int]
    ) -> list[Any]:
        attributes = _resolved(node, given)
        function = self._functions.get(node.op_identifier())
        try:
            if node.op_type == "If" and is_standard(node):
                return self._if(node, environment, given, opsets)
            if node.op_type == "Loop" and is_standard(node):
                return self._loop(node, environment, given, opsets)
            inputs = [None if value is None else _read(value, environment) for value in node.inputs]
            if function is not None:
                return self._function(function, inputs, attributes)
            if not is_standard(node) or node.op_type in REFUSED or any(inner_graphs(node)):
                raise _no_reference(node)
            return self._operator(node, inputs, attributes, opset_of(opsets))
        except ConvfoldError:
            raise
        except Exception as error:
            raise _no_reference(node, one_line(error)) from error

    def _operator(self, node: ir.Node, inputs: list[Any], attributes: Attributes, opset: int) -> list[Any]:
        kind = _cast_to(node, attributes)
        if kind is not None and isinstance(inputs[0], np.ndarray):
            result = cast(inputs[0], kind)
            if result is not None:
                return [result]
        if node.op_type == "Dropout" and len(inputs) > 2 and inputs[2] is not None and bool(inputs[2]):
            raise _no_reference(node, "it is random")
        plain = {name: attribute.value for name, attribute in attributes.items()}
        asked = max((i for i, value in enumerate(node.outputs, 1) if value.name), default=1)
        results = own_operator(node.op_type, opset, plain, inputs, asked)
        if results is not None:
            return results
        if attributes is not node.attributes:  # in a function, whose next call may give others
            return OnnxOperator(node, attributes.values(), opset)(inputs)
        if node not in self._operators:
            self._operators[node] = OnnxOperator(node, attributes.values(), opset)
        return self._operators[node](inputs)

    def _function(self, function: ir.Function, inputs: list[Any], attributes: Attributes) -> list[Any]:
        defaults = {name: attribute for name, attribute in function.attributes.items() if attribute.value is not None}
        environment = dict(zip(function.inputs, inputs, strict=False))
        environment.update((value, None) for value in function.inputs[len(inputs) :])
        given = {**defaults, **attributes}
        return self.graph(function.graph, environment, list(function.outputs), given, function.opset_imports)

    def _if(
        self, node: ir.Node, environment: dict[ir.Value, Any], given: Attributes, opsets: Mapping[str, int]
    ) -> list[Any]:
        assert node.inputs[0] is not None
        condition = bool(np.asarray(_read(node.inputs[0], environment)).reshape(()))
        branch = node.attributes["then_branch" if condition else "else_branch"].as_graph()
        return self.graph(branch, environment, list(branch.outputs), given, opsets)

    def _loop(
        self, node: ir.Node, environment: dict[ir.Value, Any], given: Attributes, opsets: Mapping[str, int]
    ) -> list[Any]:
        inputs = [None if value is None else _read(value, environment) for value in (*node.inputs, None, None)]
        most, condition = inputs[:2]
        carried = inputs[2 : len(node.inputs)]
        body = node.attributes["body"].as_graph()
        scans: list[list[Array]] = [[] for _ in body.outputs[1 + len(carried) :]]
        going, step = condition is None or bool(condition), 0
        while going and (most is None or step < int(most)):
            if step == STEPS:
                raise _no_reference(node, f"more than {STEPS} steps")
            fed = [np.array(step, np.int64), np.array(going), *carried]
            inner = {**environment, **dict(zip(body.inputs, fed, strict=True))}
            results = self.graph(body, inner, list(body.outputs), given, opsets)
            going, carried = bool(results[0]), results[1 : 1 + len(carried)]
            for rows, row in zip(scans, results[1 + len(carried) :], strict=True):
                rows.append(row)
            step += 1
        if scans and not step:
            raise _no_reference(node, "no step was run, so that what it collects has no shape")
        return [*carried, *(np.stack(rows) for rows in scans)]


def _needed(graph: ir.Graph, wanted: list[ir.Value], known: Mapping[ir.Value, Any]) -> list[ir.Node]:
    """The nodes that `wanted` follows from, in their order."""
    needed = set(wanted)
    nodes = []
    for node in reversed(graph):
        if any(value in needed and value not in known for value in node.outputs):
            nodes.append(node)
            needed.update(reads(node))
    return nodes[::-1]


def _read(value: ir.Value, environment: dict[ir.Value, Any]) -> Any:
    """A value; a weight is read from the model."""
    if value not in environment:
        if value.const_value is None:
            raise InvalidArgument("nothing computes this tensor", where=printable(value.name or ""))
        environment[value] = widened(value.const_value.numpy())
    return environment[value]


def _resolved(node: ir.Node, given: Attributes) -> Attributes:
    """The attributes of a node; those that refer to an attribute of the function around it, by its call."""
    if not any(attribute.is_ref() for attribute in node.attributes.values()):
        return node.attributes
    found = {}
    for name, attribute in node.attributes.items():
        if not attribute.is_ref():
            found[name] = attribute
        elif (referred := given.get(attribute.ref_attr_name or "")) is not None:
            found[name] = ir.Attr(name, referred.type, referred.value)
    return found


def _cast_to(node: ir.Node, attributes: Attributes) -> ir.DataType | None:
    """The type that a node casts to."""
    if node.op_type == "Cast":
        return ir.DataType(attributes["to"].as_int())
    if node.op_type == "CastLike" and node.inputs[1] is not None:
        # What was real is float64 by now, whatever the model says; only its declaration knows of 16 bits.
        return node.inputs[1].dtype or ir.DataType.FLOAT
    return None
