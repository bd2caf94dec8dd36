"""Each ONNX operator that is known as linear: which map it is seen as, against what onnx says that it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from convfold.graph.onnx.capture import capture
from convfold.graph.onnx.reading import WORDS
from convfold.graph.onnx.words.elementwise import unary
from support.onnx_graphs import Sketch
from support.onnx_meaning import captured_and_checked, kind_of

OPSETS = (9, 11, 13, 17, 20, 26)
Draw = Callable[[Sketch, str], str]


def seen(draw: Draw, opset: int = 17, shape: tuple[Any, ...] = (2, 4, 6, 5)) -> str:
    """What the last node of a drawing is seen as; every node is checked."""
    s = Sketch(opset)
    out = draw(s, s.input("x", shape))
    return kind_of(captured_and_checked(s.model(out)), out)


def spread(s: Sketch, op: str, x: str, axes: list[int], since: int, **more: Any) -> str:
    """A node whose axes are an attribute before operator set `since`."""
    if s.opset < since:
        return s.op(op, x, axes=axes, **more)
    return s.op(op, x, s.integers(*axes), **more)


def sliced(
    s: Sketch, x: str, axes: list[int], starts: list[int], ends: list[int], steps: list[int] | None = None
) -> str:
    if s.opset < 10:
        return s.op("Slice", x, axes=axes, starts=starts, ends=ends)
    numbers = [starts, ends, axes, *([steps] if steps else [])]
    return s.op("Slice", x, *(s.integers(*found) for found in numbers))


def padded(s: Sketch, x: str, pads: list[int], mode: str = "constant", value: float | None = None) -> str:
    if s.opset < 11:
        return s.op("Pad", x, pads=pads, mode=mode, **({} if value is None else {"value": value}))
    held = [] if value is None else [s.hold(np.float32(value))]
    return s.op("Pad", x, s.integers(*pads), *held, mode=mode)


def split(s: Sketch, x: str, axis: int, *widths: int) -> list[str]:
    if s.opset < 13:
        return s.op("Split", x, outputs=len(widths), axis=axis, split=widths)
    return s.op("Split", x, s.integers(*widths), outputs=len(widths), axis=axis)


# Drawings that are spelled in the same way in all operator sets, or by the helpers above.
PLAIN: dict[str, tuple[Draw, str]] = {
    "Conv": (lambda s, x: s.conv(x, 4, 3, 3, 2, pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]), "conv"),
    "Conv with a bias": (lambda s, x: s.conv(x, 4, 6, 3, 3, bias=True, group=2), "conv + shift"),
    "Conv depthwise": (lambda s, x: s.conv(x, 4, 4, 3, 3, group=4), "conv"),
    "Conv SAME_UPPER": (lambda s, x: s.conv(x, 4, 3, 4, 4, auto_pad="SAME_UPPER", strides=[2, 2]), "conv"),
    "Conv SAME_LOWER": (lambda s, x: s.conv(x, 4, 3, 2, 3, auto_pad="SAME_LOWER"), "conv"),
    "Conv VALID": (lambda s, x: s.conv(x, 4, 3, 3, 3, auto_pad="VALID"), "conv"),
    "ConvTranspose": (
        lambda s, x: s.op(
            "ConvTranspose", x, s.hold(s.normal(4, 3, 3, 2)), s.hold(s.normal(3)), strides=[2, 2], pads=[1, 0, 0, 1],
            output_padding=[1, 0],
        ), "transposed + shift"),
    "ConvTranspose in groups": (
        lambda s, x: s.op("ConvTranspose", x, s.hold(s.normal(4, 3, 3, 3)), group=2, dilations=[2, 1]), "transposed"),
    "MatMul": (lambda s, x: s.op("MatMul", x, s.hold(s.normal(5, 3))), "conv"),
    "Add, one per channel": (lambda s, x: s.op("Add", x, s.hold(s.normal(4, 1, 1))), "identity + shift"),
    "Add, on the left": (lambda s, x: s.op("Add", s.hold(s.normal(1, 4, 1, 1)), x), "identity + shift"),
    "Add, one number": (lambda s, x: s.op("Add", x, s.hold(s.normal())), "identity + shift"),
    "Add, on the last axis": (lambda s, x: s.op("Add", x, s.hold(s.normal(5))), "identity + shift"),
    "Add of two values": (lambda s, x: s.op("Add", x, s.op("Relu", x)), "identity + identity"),
    "Sub": (lambda s, x: s.op("Sub", x, s.hold(s.normal(4, 1, 1))), "identity + shift"),
    "Sub, on the left": (lambda s, x: s.op("Sub", s.hold(s.normal(4, 1, 1)), x), "scalar + shift"),
    "Sub of two values": (lambda s, x: s.op("Sub", x, s.op("Relu", x)), "identity + scalar"),
    "Mul": (lambda s, x: s.op("Mul", x, s.hold(s.factor(4, 1, 1))), "diagonal"),
    "Mul, on the left": (lambda s, x: s.op("Mul", s.hold(s.factor(1, 4, 1, 1)), x), "diagonal"),
    "Mul, one number": (lambda s, x: s.op("Mul", x, s.hold(s.factor(1, 1))), "scalar"),
    "Div": (lambda s, x: s.op("Div", x, s.hold(s.factor(4, 1, 1))), "diagonal"),
    "Div, one number": (lambda s, x: s.op("Div", x, s.hold(s.factor())), "scalar"),
    "Neg": (lambda s, x: s.op("Neg", x), "scalar"),
    "Sum": (lambda s, x: s.op("Sum", x, s.op("Relu", x), x), "identity + identity + identity"),
    "BatchNormalization": (lambda s, x: s.norm(x, 4, epsilon=1e-3), "diagonal + shift"),
    "Identity": (lambda s, x: s.op("Identity", s.op("Relu", x)), "identity"),
    "Dropout": (lambda s, x: s.op("Dropout", x), "identity"),
    "Cast": (lambda s, x: s.op("Cast", x, to=TensorProto.FLOAT), "identity"),
    "Concat": (lambda s, x: s.op("Concat", x, s.op("Relu", x), axis=1), "Concat"),
    "Concat from behind": (lambda s, x: s.op("Concat", x, s.op("Relu", x), axis=-3), "Concat"),
    "Split": (lambda s, x: split(s, x, 1, 1, 3)[1], "select"),
    "Split from behind": (lambda s, x: split(s, x, -3, 3, 1)[0], "select"),
    "Slice of channels": (lambda s, x: sliced(s, x, [1], [1], [-1]), "select"),
    "Slice of channels and positions": (lambda s, x: sliced(s, x, [1, 2], [0, 1], [2, 4]), "Opaque"),
    "Slice of positions": (lambda s, x: sliced(s, x, [2, 3], [1, 0], [-1, 4]), "pool"),
    "Slice of everything": (lambda s, x: sliced(s, x, [0, 1], [0, 0], [2, 2**31 - 1]), "identity"),
    "Gather": (lambda s, x: s.op("Gather", x, s.integers(3, 0, 0, -2), axis=1), "select"),
    "Gather of one": (lambda s, x: s.op("Gather", x, s.integers(2), axis=-3), "select"),
    "Transpose": (lambda s, x: s.op("Transpose", x, perm=[0, 2, 3, 1]), "Spatial"),
    "Transpose twice": (
        lambda s, x: s.op("Transpose", s.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2]), "identity"),
    "Transpose of all axes": (lambda s, x: s.op("Transpose", x), "Spatial"),
    "Reshape": (lambda s, x: s.op("Reshape", x, s.integers(0, 4, -1)), "Spatial"),
    "Flatten": (lambda s, x: s.op("Flatten", x, axis=1), "Spatial"),
    "Squeeze": (lambda s, x: spread(s, "Squeeze", spread(s, "Unsqueeze", x, [1], 13), [1], 13), "identity"),
    "Unsqueeze": (lambda s, x: spread(s, "Unsqueeze", x, [4], 13), "Spatial"),
    "a shuffle of channels": (
        lambda s, x: s.op(
            "Reshape",
            s.op("Transpose", s.op("Reshape", x, s.integers(2, 2, 2, 6, 5)), perm=[0, 2, 1, 3, 4]),
            s.integers(0, -1, 6, 5),
        ), "select"),
    "Expand": (lambda s, x: s.op("Expand", s.op("GlobalAveragePool", x), s.integers(2, 4, 3, 1)), "Spatial"),
    "DepthToSpace, pixels apart": (lambda s, x: s.op("DepthToSpace", x, blocksize=2), "Opaque"),
    "AveragePool": (lambda s, x: s.op("AveragePool", x, kernel_shape=[2, 3], strides=[2, 1]), "pool"),
    "AveragePool with its padding": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1), "pool"),
    "AveragePool without its padding": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "Spatial"),
    "AveragePool SAME_UPPER": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[2, 2], auto_pad="SAME_UPPER"), "Spatial"),
    "GlobalAveragePool": (lambda s, x: s.op("GlobalAveragePool", x), "Spatial"),
    "ReduceMean": (lambda s, x: spread(s, "ReduceMean", x, [-1, -2], 18, keepdims=0), "Spatial"),
    "ReduceSum": (lambda s, x: spread(s, "ReduceSum", x, [2, 3], 13), "Spatial"),
    "ReduceMean of all": (lambda s, x: s.op("ReduceMean", x, keepdims=1), "Spatial"),
    "Pad": (lambda s, x: padded(s, x, [0, 0, 1, 0, 0, 0, 2, 3]), "pool"),
    "Pad by zeros": (lambda s, x: padded(s, x, [0, 0, 1, 0, 0, 0, 2, 3], value=0.0), "pool"),
    "Pad by nothing": (lambda s, x: padded(s, x, [0] * 8), "identity"),
    "Pad by a number": (lambda s, x: padded(s, x, [0, 0, 1, 1, 0, 0, 1, 1], value=1.0), "Opaque"),
    "Pad by reflection": (lambda s, x: padded(s, x, [0, 0, 1, 1, 0, 0, 1, 1], "reflect"), "Spatial"),
    "Pad by the border": (lambda s, x: padded(s, x, [0, 0, 1, 1, 0, 0, 1, 1], "edge"), "Spatial"),
    "Relu": (lambda s, x: s.op("Relu", x), "Elementwise"),
    "Clip": (
        lambda s, x: s.op("Clip", x, min=0.0, max=6.0) if s.opset < 11
        else s.op("Clip", x, s.hold(np.float32(0)), s.hold(np.float32(6))), "Elementwise"),
    "LeakyRelu": (lambda s, x: s.op("LeakyRelu", x, alpha=0.2), "Elementwise"),
    "PRelu of one slope": (lambda s, x: s.op("PRelu", x, s.hold(s.factor(1))), "Elementwise"),
    "PRelu": (lambda s, x: s.op("PRelu", x, s.hold(s.factor(4, 1, 1))), "Opaque"),
    "Min": (lambda s, x: s.op("Min", x, s.hold(np.float32(6))), "Elementwise"),
    "Max": (lambda s, x: s.op("Max", s.hold(np.float32(0)), x), "Elementwise"),
    "Softmax": (lambda s, x: s.op("Softmax", x), "Opaque"),
    "Mul of two values": (lambda s, x: s.op("Mul", x, s.op("Relu", x)), "Opaque"),
    "Add of a map": (lambda s, x: s.op("Add", x, s.hold(s.normal(1, 1, 6, 5))), "Opaque"),
    "Div, on the left": (lambda s, x: s.op("Div", s.hold(s.factor(1)), x), "Opaque"),
}  # fmt: skip


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", PLAIN)
def test_an_operator_is_seen(name: str, opset: int) -> None:
    if opset < 11 and "behind" in name and "Concat" in name:
        pytest.skip("axes are counted from the front")
    draw, expected = PLAIN[name]
    assert seen(draw, opset) == expected


# Operators of newer sets, and what depends on the shape.
def resized(s: Sketch, x: str, *scales: float, **more: Any) -> str:
    held = s.hold(np.array(scales, np.float32))
    if s.opset < 10:
        return s.op("Upsample", x, held, mode="nearest")
    return s.op("Resize", x, held, mode="nearest") if s.opset < 11 else s.op("Resize", x, s.hold(EMPTY), held, **more)


EMPTY = np.array([], np.float32)
OTHER: dict[str, tuple[Draw, str, int, tuple[Any, ...]]] = {
    "Conv 1-d": (lambda s, x: s.conv(x, 4, 3, 3, pads=[2, 0], strides=[2]), "conv", 17, (2, 4, 9)),
    "Conv 3-d": (lambda s, x: s.conv(x, 4, 3, 1, 3, 2, pads=[0, 1, 0, 0, 1, 1]), "conv", 17, (2, 4, 4, 5, 6)),
    "ConvTranspose 1-d": (
        lambda s, x: s.op("ConvTranspose", x, s.hold(s.normal(4, 2, 3)), strides=[3]), "transposed", 17, (2, 4, 5)),
    "ConvTranspose of a size": (
        lambda s, x: s.op("ConvTranspose", x, s.hold(s.normal(4, 2, 3)), output_shape=[9], strides=[2]),
        "Opaque", 17, (2, 4, 5)),
    "Gemm": (lambda s, x: s.op("Gemm", x, s.hold(s.normal(5, 3)), s.hold(s.normal(3))), "conv + shift", 17, (2, 5)),
    "Gemm, everything": (
        lambda s, x: s.op(
            "Gemm", x, s.hold(s.normal(3, 5)), s.hold(s.normal(1, 3)), transB=1, alpha=0.5, beta=2.0
        ), "conv + shift", 11, (2, 5)),
    "Gemm, one number": (
        lambda s, x: s.op("Gemm", x, s.hold(s.normal(5, 3)), s.hold(s.normal())), "conv + shift", 9, (2, 5)),
    "Gemm, no bias": (lambda s, x: s.op("Gemm", x, s.hold(s.normal(3, 5)), transB=1), "conv", 13, (2, 5)),
    "Gemm, a bias of each row": (
        lambda s, x: s.op("Gemm", x, s.hold(s.normal(5, 3)), s.hold(s.normal(2, 1))), "Opaque", 13, (2, 5)),
    "Gemm, turned": (
        lambda s, x: s.op("Gemm", x, s.hold(s.normal(2, 3)), transA=1), "Opaque", 13, (2, 5)),
    "MatMul, the constant first": (lambda s, x: s.op("MatMul", s.hold(s.normal(3, 2)), x), "Opaque", 13, (2, 5)),
    "MatMul of a stack": (lambda s, x: s.op("MatMul", x, s.hold(s.normal(2, 5, 3))), "Opaque", 13, (2, 4, 5)),
    "BatchNormalization of vectors": (lambda s, x: s.norm(x, 5), "diagonal + shift", 9, (3, 5)),
    "BatchNormalization in training": (
        lambda s, x: s.op(
            "BatchNormalization", x, *(s.hold(s.factor(4)) for _ in range(3)), s.hold(np.ones(4, np.float32)),
            outputs=3, training_mode=1,
        )[0], "Opaque", 15, (2, 4, 3, 3)),
    "Dropout, not in training": (
        lambda s, x: s.op("Dropout", x, s.hold(np.float32(0.5)), s.hold(np.array(False))), "identity", 13, (2, 4)),
    "Slice in steps": (
        lambda s, x: sliced(s, x, [1], [3], [-(2**31)], [-2]), "select", 13, (2, 4, 3)),
    "Slice of every other position": (
        lambda s, x: sliced(s, x, [2, 3], [1, 0], [2**31 - 1, 2**31 - 1], [2, 2]), "pool", 11, (2, 4, 6, 7)),
    "Slice of the batch": (lambda s, x: sliced(s, x, [0], [0], [1]), "Opaque", 13, (2, 4, 3)),
    "Gather of the batch": (lambda s, x: s.op("Gather", x, s.integers(1, 0)), "Opaque", 13, (2, 4, 3)),
    "Gather, by one number": (
        lambda s, x: s.op("Gather", x, s.hold(np.array(1)), axis=1), "Opaque", 13, (2, 4, 3)),
    "Split of the batch": (lambda s, x: split(s, x, 0, 1, 1)[0], "Opaque", 13, (2, 4, 3)),
    "Split by a count": (
        lambda s, x: s.op("Split", x, outputs=3, axis=1, num_outputs=3)[2], "select", 18, (2, 8, 3)),
    "DepthToSpace": (
        lambda s, x: s.op("DepthToSpace", x, blocksize=2, mode="CRD"), "Spatial", 11, (2, 8, 3, 3)),
    "Upsample": (lambda s, x: resized(s, x, 1, 1, 2, 3), "Spatial", 9, (2, 4, 3, 3)),
    "Resize": (lambda s, x: resized(s, x, 1, 1, 2, 2, mode="linear"), "Spatial", 13, (2, 4, 3, 3)),
    "Resize of channels": (lambda s, x: resized(s, x, 1, 2, 1, 1), "Opaque", 13, (2, 4, 3, 3)),
    "Resize, cubic": (lambda s, x: resized(s, x, 1, 1, 2, 2, mode="cubic"), "Spatial", 13, (2, 4, 5, 5)),
    "AveragePool up to the end": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[2], strides=[2], ceil_mode=1), "Spatial", 13, (2, 4, 7)),
    "AveragePool up to the end, which fits": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[2], strides=[2], ceil_mode=1), "pool", 13, (2, 4, 8)),
    "AveragePool with gaps": (
        lambda s, x: s.op("AveragePool", x, kernel_shape=[2], dilations=[2]), "pool", 19, (2, 4, 8)),
    "Pad of some axes": (
        lambda s, x: s.op("Pad", x, s.integers(1, 2), "", s.integers(-1)), "pool", 18, (2, 4, 5)),
    "Pad of channels": (lambda s, x: padded(s, x, [0, 1, 0, 0, 0, 0]), "Spatial", 13, (2, 4, 5)),
    "HardSwish": (lambda s, x: s.op("HardSwish", x), "Elementwise", 14, (2, 4)),
    "Gelu": (lambda s, x: s.op("Gelu", x), "Elementwise", 20, (2, 4)),
    "Mish": (lambda s, x: s.op("Mish", x), "Elementwise", 18, (2, 4)),
    "Pow": (lambda s, x: s.op("Pow", x, s.hold(np.float32(2))), "Elementwise", 13, (2, 4)),
    "Cast to another type": (
        lambda s, x: s.op("Cast", s.op("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT), "Opaque", 13, (2, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_an_operator_is_seen_here(name: str) -> None:
    draw, expected, opset, shape = OTHER[name]
    assert seen(draw, opset, shape) == expected


def test_a_shape_that_follows_the_input_is_read() -> None:
    s = Sketch(13)
    x = s.input("x", ("n", 4, 3, 3))
    size = s.op("Gather", s.op("Shape", x), s.integers(0))
    y = s.op("Reshape", x, s.op("Concat", size, s.integers(-1), axis=0))
    captured = captured_and_checked(s.model(y, shapes={y: ["n", 36]}))
    assert kind_of(captured, y) == "Spatial"
    assert set(captured.names.values()) == {x, y}


def test_a_dropout_that_drops_is_left_alone() -> None:
    for mode in ("training", "asked"):
        s = Sketch(13)
        x = s.input("x", (2, 4))
        flag = s.hold(np.array(True)) if mode == "training" else s.input("flag", (), np.bool_)
        y = s.op("Dropout", x, s.hold(np.float32(0.5)), flag)
        assert kind_of(capture(ir.serde.deserialize_model(s.model(y))), y) == "Opaque"


def test_every_word_has_a_case() -> None:
    drawn = set()
    for draw, opset, shape in [(d, 17, (2, 4, 6, 5)) for d, _ in PLAIN.values()] + [
        (d, opset, shape) for d, _, opset, shape in OTHER.values()
    ]:
        s = Sketch(opset)
        draw(s, s.input("x", shape))
        drawn |= {node.op_type for node in s.nodes}
    functions = {name for name, found in WORDS.items() if found in (unary,)}
    assert set(WORDS) - functions - drawn == {"CastLike"}
