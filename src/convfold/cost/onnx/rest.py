"""FLOPs of one ONNX node beyond the two of each multiply-accumulate, by the rules of `convfold.cost.counting.flops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log2, prod

import onnx_ir as ir

__all__ = ["ALIASES", "Sized", "rest"]

Shape = tuple[int, ...]


def _names(text: str) -> list[str]:
    return text.split()


# The same memory under another shape; a runtime copies nothing.
ALIASES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
_MOVES = (
    frozenset(
        _names(
            """Cast CastLike Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Gather GatherElements
        GatherND NonZero OneHot Pad Range Scatter ScatterElements ScatterND Shape Size Slice SpaceToDepth Split
        Tile Transpose Where Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        ReverseSequence Trilu Unique CenterCropPad Col2Im"""
        )
    )
    | ALIASES
)
_PRODUCTS = frozenset({"MatMul"})
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
# For each element of the first result.
_WRITTEN = {
    **dict.fromkeys(
        _names(
            """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil
        Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN
        LeakyRelu Less LessOrEqual Log Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink
        Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Swish Tan Tanh ThresholdedRelu Xor"""
        ),
        1,
    ),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), 2),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), 5),
    "BatchNormalization": 2,
    "InstanceNormalization": 7,
    "GroupNormalization": 7,
    "MeanVarianceNormalization": 5,
}
# For each element of the first input.
_READ = {
    **dict.fromkeys(
        _names(
            """ArgMax ArgMin CumSum GlobalAveragePool GlobalMaxPool ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceL1"""
        ),
        1,
    ),
    **dict.fromkeys(("ReduceL2", "ReduceSumSquare", "GlobalLpPool", "LpNormalization"), 2),
    **dict.fromkeys(("ReduceLogSum",), 1),
    **dict.fromkeys(("ReduceLogSumExp",), 4),
}
# For each hidden unit, step and direction: two biases and the sum of two products for each gate, then the gates.
_UNITS = {"LSTM": 21, "GRU": 17, "RNN": 4}


@dataclass(frozen=True)
class Sized:
    """A node with the shapes of what it reads and gives; None where one is left out or not known."""

    node: ir.Node
    read: Sequence[Shape | None]
    given: Sequence[Shape | None]

    @property
    def written(self) -> int:
        """Elements of the first result."""
        return prod(self.given[0] or ())

    def ints(self, name: str) -> Sequence[int]:
        """A list of integers among its attributes."""
        return self.node.attributes[name].as_ints() if name in self.node.attributes else ()

    def text(self, name: str, default: str) -> str:
        """A text among its attributes."""
        return self.node.attributes[name].as_string() if name in self.node.attributes else default


def rest(sized: Sized) -> int | None:
    """FLOPs besides those of products; None for an operator without a formula, and where shapes are not known."""
    kind = sized.node.op_type
    if not sized.given or sized.given[0] is None or (sized.read and sized.read[0] is None and kind not in _MOVES):
        return 0 if kind in _MOVES else None
    first = prod(sized.read[0] or ()) if sized.read else 0
    if kind in _MOVES or kind in _PRODUCTS:
        return 0
    if kind in _BIASED:
        place = _BIASED[kind]
        return sized.written if len(sized.read) > place and sized.read[place] is not None else 0
    if kind in _WRITTEN:
        return _WRITTEN[kind] * sized.written
    if kind in _READ:
        return _READ[kind] * first
    own = _OWN.get(kind)
    return None if own is None else own(sized, first)


def _pool(sized: Sized, first: int) -> int:
    return sized.written * prod(sized.ints("kernel_shape"))


def _norm(sized: Sized, first: int) -> int:
    return first * (5 + sum(shape is not None for shape in sized.read[1:3]))


def _several(sized: Sized, first: int) -> int:
    return sized.written * (len(sized.read) - (sized.node.op_type != "Mean"))


def _resize(sized: Sized, first: int) -> int:
    per_axis = {"linear": 2, "cubic": 4}.get(sized.text("mode", "nearest"), 1)
    changed = sum(a != b for a, b in zip(sized.read[0] or (), sized.given[0] or (), strict=True))
    taps = per_axis**changed
    return sized.written * (2 * taps - 1) if taps > 1 else 0


def _sort(sized: Sized, first: int) -> int:
    axis = sized.node.attributes["axis"].as_int() if "axis" in sized.node.attributes else -1
    shape = sized.read[0] or (1,)
    return first * ceil(log2(max(shape[axis], 1)))


def _recurrent(sized: Sized, first: int) -> int:
    weights, inner = sized.read[1] or (0, 0, 0), sized.read[2] or (0, 0, 0)
    steps = prod((sized.read[0] or ())[:2])
    return _UNITS[sized.node.op_type] * steps * weights[0] * inner[2]


_OWN: dict[str, Callable[[Sized, int], int]] = {
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    "LayerNormalization": _norm,
    **dict.fromkeys(("Sum", "Max", "Min", "Mean"), _several),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "TopK": _sort,
    **dict.fromkeys(_UNITS, _recurrent),
}
