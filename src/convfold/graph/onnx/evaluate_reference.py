"""Operators that the float64 reference leaves to onnx's own implementations, fed with float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convfold.graph.onnx.evaluate_numbers import widened

__all__ = ["REFUSED", "OnnxOperator"]

# Random; of the bits of a float32; or rounded to float32 by onnx's implementation, whatever it is fed with.
REFUSED = frozenset(
    {
        "AffineGrid",
        "Bernoulli",
        "BitCast",
        "CausalConvWithState",
        "DynamicQuantizeLinear",
        "ImageDecoder",
        "LinearAttention",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


class OnnxOperator:
    """One node of ai.onnx, run by onnx.reference. `attributes` are the node's, with references resolved."""

    def __init__(self, node: ir.Node, attributes: Iterable[ir.Attr], opset: int) -> None:
        self._inputs = [f"in{i}" if value is not None else "" for i, value in enumerate(node.inputs)]
        outputs = [f"out{i}" if value.name else "" for i, value in enumerate(node.outputs)]
        self._places = [i for i, name in enumerate(outputs) if name]
        self._outputs = [outputs[i] for i in self._places]
        self._scales: list[float] | None = None
        protos = [ir.to_proto(attribute) for attribute in attributes]
        if node.op_type == "Upsample" or (node.op_type == "Resize" and opset < 11):
            proto = self._resize(protos)
            opset = 13
        else:
            proto = onnx.NodeProto(op_type=node.op_type, input=self._inputs)
            proto.attribute.extend(protos)
        proto.output.extend(outputs)
        graph = onnx.GraphProto(node=[proto])
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in self._inputs if name)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._outputs)
        self._evaluator = ReferenceEvaluator(graph, opsets={"": opset})
        self._count = len(outputs)

    def _resize(self, protos: list[onnx.AttributeProto]) -> onnx.NodeProto:
        """Upsample, and Resize as it was at first, in terms of today's Resize."""
        given = {proto.name: helper.get_attribute_value(proto) for proto in protos}
        self._scales = given.get("scales")
        return helper.make_node(
            "Resize",
            [self._inputs[0], "", "in1"],
            [],
            mode="nearest" if given.get("mode", b"nearest") == b"nearest" else "linear",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def __call__(self, inputs: list[Any]) -> list[Any]:
        """The outputs, with None where the node leaves one out."""
        feeds = {name: value for name, value in zip(self._inputs, inputs, strict=True) if name}
        if self._scales is not None:  # of Upsample, an attribute once
            feeds["in1"] = np.array(self._scales, np.float64)
        found: list[Any] = list(self._evaluator.run(self._outputs, feeds))
        results: list[Any] = [None] * self._count
        for place, value in zip(self._places, found, strict=True):
            results[place] = widened(value)
        return results
