"""Files as other exporters write them: what is left is what a person would leave, and computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from support.onnx_graphs import Sketch, folded, operators

OPSETS = (9, 11, 13, 17, 20, 26)
FIRST, BACK = [0, 3, 1, 2], [0, 2, 3, 1]


def left(model: onnx.ModelProto, folder: Path) -> dict[str, int]:
    after, _ = folded(model, folder)
    return operators(after)


def clipped(s: Sketch, x: str, how: str = "Clip") -> str:
    """``min(max(x, 0), 6)``"""
    if how == "Min and Max":
        return s.op("Min", s.op("Max", x, s.hold(np.float32(0))), s.hold(np.float32(6)))
    if s.opset < 11:
        return s.op("Clip", x, min=0.0, max=6.0)
    return s.op("Clip", x, s.hold(np.float32(0)), s.hold(np.float32(6)))


def reduced(s: Sketch, x: str, axes: list[int]) -> str:
    if s.opset < 18:
        return s.op("ReduceMean", x, axes=axes, keepdims=0)
    return s.op("ReduceMean", x, s.integers(*axes), keepdims=0)


def squeezed(s: Sketch, x: str, axes: list[int]) -> str:
    return s.op("Squeeze", x, axes=axes) if s.opset < 13 else s.op("Squeeze", x, s.integers(*axes))


def padded(s: Sketch, x: str, pads: list[int]) -> str:
    return s.op("Pad", x, pads=pads) if s.opset < 11 else s.op("Pad", x, s.integers(*pads))


# --- TensorFlow: channels last


class TensorFlow:
    """Layers as tf2onnx writes them: each convolution between two transpositions, a BN as a Mul and an Add."""

    def __init__(self, opset: int) -> None:
        self.s = Sketch(opset)
        self.x = self.s.input("image", ["n", 16, 16, 3])
        self.width = 3

    def conv(self, x: str, high: int, kernel: int, stride: int = 1, depthwise: bool = False, pad: bool = False) -> str:
        s, low = self.s, self.width
        if pad:
            x = padded(s, x, [0, 0, 0, 0, 0, 1, 1, 0])
        y = s.op("Transpose", x, perm=FIRST)
        group = low if depthwise else 1
        mode = "VALID" if pad else "SAME_UPPER"
        y = s.conv(y, low, high, kernel, kernel, strides=[stride, stride], auto_pad=mode, group=group)
        self.width = high
        return s.op("Transpose", y, perm=BACK)

    def bias(self, x: str) -> str:
        return self.s.op("Add", x, self.s.hold(self.s.normal(self.width)))

    def norm(self, x: str) -> str:
        y = self.s.op("Mul", x, self.s.hold(self.s.factor(self.width)))
        return self.s.op("Add", y, self.s.hold(self.s.normal(self.width)))

    def head(self, x: str, classes: int = 5) -> str:
        y = reduced(self.s, x, [1, 2])
        return self.bias_of(self.s.op("MatMul", y, self.s.hold(self.s.normal(self.width, classes))), classes)

    def bias_of(self, x: str, width: int) -> str:
        return self.s.op("Add", x, self.s.hold(self.s.normal(width)))


@pytest.mark.parametrize("opset", OPSETS)
def test_tensorflow(opset: int, tmp_path: Path) -> None:
    """MobileNet's first layers: one transposition at the input, one before the mean over NHWC axes."""
    net = TensorFlow(opset)
    y = clipped(net.s, net.norm(net.conv(net.x, 8, 3, stride=2, pad=True)))
    y = clipped(net.s, net.norm(net.conv(y, 8, 3, depthwise=True)), "Min and Max")
    y = clipped(net.s, net.norm(net.bias(net.conv(y, 6, 1))))
    found = left(net.s.model(net.head(y)), tmp_path)
    assert found == {
        "Transpose": 2, "Conv": 3, "Clip": 2, "Min": 1, "Max": 1, "ReduceMean": 1, "Gemm": 1
    }  # fmt: skip


@pytest.mark.parametrize("opset", [9, 13, 26])
def test_tensorflow_residual(opset: int, tmp_path: Path) -> None:
    """Sums and concatenations with channels last between convolutions; the shortcut goes into its branch."""
    net = TensorFlow(opset)
    y = net.s.op("Relu", net.norm(net.conv(net.x, 4, 3)))
    z = net.norm(net.conv(y, 4, 3))
    y = net.s.op("Relu", net.s.op("Add", y, z))
    both = net.s.op("Concat", y, net.s.op("Sigmoid", net.bias(net.conv(y, 4, 1))), axis=3)
    net.width = 8
    y = net.norm(net.conv(both, 6, 3, pad=True, stride=2))
    found = left(net.s.model(y), tmp_path)
    assert found == {"Transpose": 2, "Conv": 4, "Relu": 2, "Sigmoid": 1, "Concat": 1}


def test_tensorflow_keeps_what_is_asked_for(tmp_path: Path) -> None:
    """An output between two convolutions has channels last: it takes a transposition of its own, and no more."""
    net = TensorFlow(13)
    middle = net.s.op("Relu", net.bias(net.conv(net.x, 4, 3)))
    y = net.bias(net.conv(middle, 4, 3))
    found = left(net.s.model(y, middle), tmp_path)
    assert found == {"Transpose": 3, "Conv": 2, "Relu": 1}


@pytest.mark.parametrize("opset", OPSETS)
def test_keras(opset: int, tmp_path: Path) -> None:
    """Zero padding as a layer of its own, batch normalisations with one number of epsilon, a branch of two poolings."""
    s = Sketch(opset)
    x = s.input("input_1", ["n", 3, 14, 14])
    y = padded(s, x, [0, 0, 1, 1, 0, 0, 1, 1])
    y = s.op("Relu", s.norm(s.conv(y, 3, 6, 3, 3, bias=True, auto_pad="VALID"), 6, epsilon=1e-3))
    y = s.op("Dropout", s.norm(s.conv(y, 6, 6, 3, 3, group=6, auto_pad="SAME_UPPER"), 6, epsilon=1e-3))
    y = s.op("Relu", s.norm(s.conv(y, 6, 8, 1, 1), 8, epsilon=1e-3))
    y = squeezed(s, s.op("GlobalAveragePool", y), [2, 3])
    y = s.op("Add", s.op("MatMul", y, s.hold(s.normal(8, 4))), s.hold(s.normal(4)))
    found = left(s.model(y), tmp_path)
    # The depthwise convolution goes into the pointwise one only where that is no dearer.
    assert found == {"Conv": 3, "Relu": 2, "GlobalAveragePool": 1, "Squeeze": 1, "Gemm": 1}


# --- Paddle


@pytest.mark.parametrize("opset", OPSETS)
def test_paddle(opset: int, tmp_path: Path) -> None:
    """Biases through Reshape, of filled tensors, batch normalisations in nodes of their own, a scale of one number."""
    s = Sketch(opset)
    x = s.input("x", ["batch", 3, 12, 12])

    def bias(y: str, width: int) -> str:
        return s.op("Add", y, s.op("Reshape", s.hold(s.normal(width)), s.integers(1, width, 1, 1)))

    def filled(y: str, width: int) -> str:
        number = numpy_helper.from_array(np.array([0.25], np.float32))
        shape = s.op("Constant", value=numpy_helper.from_array(np.array([1], np.int64)))
        one = s.op("ConstantOfShape", shape, value=number)
        return s.op("Add", y, s.op("Expand", one, s.integers(width, 1, 1)))

    y = s.norm(bias(s.conv(x, 3, 8, 3, 3, pads=[1] * 4), 8), 8)
    y = s.op("Add", y, s.norm(filled(s.conv(x, 3, 8, 1, 1), 8), 8))
    y = s.op("Relu", y)
    scale = s.op("Constant", value=numpy_helper.from_array(np.array([2.0], np.float32)))
    y = s.op("Mul", bias(s.conv(y, 8, 8, 3, 3, pads=[1] * 4, group=8), 8), scale)
    y = s.op("Div", s.op("Sub", s.conv(y, 8, 6, 1, 1), s.hold(s.normal(1, 6, 1, 1))), s.hold(np.float32(4)))
    y = s.op("Flatten", s.op("GlobalAveragePool", s.op("Relu", y)), axis=1)
    found = left(s.model(s.op("Gemm", y, s.hold(s.normal(6, 3)), s.hold(s.normal(3)))), tmp_path)
    assert found == {"Conv": 3, "Relu": 2, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}


def test_paddle_reads_its_batch(tmp_path: Path) -> None:
    """Shape, Slice and Concat before a Reshape, which stays as it is."""
    s = Sketch(13)
    x = s.input("x", ["batch", 3, "high", "wide"])
    y = s.norm(s.conv(x, 3, 4, 3, 3), 4)
    size = s.op("Slice", s.op("Shape", y), s.integers(0), s.integers(1), s.integers(0))
    y = s.op("Reshape", y, s.op("Concat", size, s.integers(4, -1), axis=0))
    y = s.op("Relu", y)
    found = left(s.model(y, shapes={y: ["batch", 4, "positions"]}), tmp_path)
    assert {kind: found.get(kind, 0) for kind in ("Conv", "BatchNormalization", "Reshape", "Relu")} == {
        "Conv": 1, "BatchNormalization": 0, "Reshape": 1, "Relu": 1
    }  # fmt: skip


# --- Caffe, MXNet


@pytest.mark.parametrize("opset", [9, 11])
def test_caffe(opset: int, tmp_path: Path) -> None:
    """Initialisers that are inputs by form, BN and its Scale in two nodes, Dropout, Flatten and Gemm."""
    s = Sketch(opset, ir_version=3)
    x = s.input("data", [1, 3, 10, 10])
    y = s.norm(s.conv(x, 3, 6, 3, 3, bias=True, pads=[1] * 4, kernel_shape=[3, 3], strides=[1, 1]), 6)
    y = s.op("Add", s.op("Mul", y, s.hold(s.factor(6, 1, 1))), s.hold(s.normal(6, 1, 1)))
    y = s.op("MaxPool", s.op("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = s.op("Flatten", y)
    y = s.op("Gemm", y, s.hold(s.normal(7, 150, scale=0.1)), s.hold(s.normal(7)), transB=1)
    y = s.op("Gemm", s.op("Dropout", y, ratio=0.5), s.hold(s.normal(7, 4)), s.hold(s.normal(4)), alpha=2.0)
    model = s.model(s.op("Softmax", y, axis=1))
    after, _ = folded(model, tmp_path)
    assert operators(after) == {"Conv": 1, "Relu": 1, "MaxPool": 1, "Flatten": 1, "Gemm": 1, "Softmax": 1}
    assert [value.name for value in after.graph.input][:1] == ["data"]
    assert {value.name for value in after.graph.input} == {"data", *(t.name for t in after.graph.initializer)}


@pytest.mark.parametrize("opset", [9, 13])
def test_mxnet(opset: int, tmp_path: Path) -> None:
    """A normalised input, as its symbols hold it, and a residual block that begins with a BN."""
    s = Sketch(opset)
    x = s.input("data", [1, 3, 8, 8])
    y = s.op("Mul", s.op("Sub", x, s.hold(s.normal(1, 3, 1, 1))), s.hold(np.abs(s.factor(1, 3, 1, 1))))
    y = s.conv(s.norm(y, 3), 3, 4, 3, 3)
    z = s.conv(s.op("Relu", s.norm(y, 4)), 4, 4, 3, 3, pads=[1] * 4)
    z = s.conv(s.op("Relu", s.norm(z, 4)), 4, 4, 3, 3, pads=[1] * 4)
    found = left(s.model(s.op("Add", z, y)), tmp_path)
    assert found == {"Conv": 3, "BatchNormalization": 1, "Relu": 2, "Add": 1}


# --- PyTorch, long ago


@pytest.mark.parametrize("opset", [9, 11, 13])
def test_a_channel_shuffle(opset: int, tmp_path: Path) -> None:
    """ShuffleNet: views between two convolutions are one selection, which the first takes in."""
    s = Sketch(opset)
    y = s.norm(s.conv(s.input("x", [1, 4, 6, 6]), 4, 8, 1, 1), 8)
    y = s.op("Transpose", s.op("Reshape", y, s.integers(1, 2, 4, 6, 6)), perm=[0, 2, 1, 3, 4])
    y = s.op("Reshape", y, s.integers(1, 8, 6, 6))
    y = s.norm(s.conv(y, 8, 8, 3, 3, group=8), 8)
    found = left(s.model(s.op("Relu", y)), tmp_path)
    assert found == {"Conv": 2, "Relu": 1}


def test_a_type_that_stays(tmp_path: Path) -> None:
    """A cast to the type that is there, around half precision."""
    s = Sketch(13, dtype=np.float16)
    y = s.op("Cast", s.conv(s.input("x", [1, 4, 6, 6]), 4, 8, 3, 3), to=TensorProto.FLOAT16)
    found = left(s.model(s.op("Relu", s.norm(y, 8))), tmp_path)
    assert found == {"Conv": 1, "Relu": 1}
