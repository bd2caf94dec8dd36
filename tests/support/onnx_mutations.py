"""Damage done to ONNX models, by seed: to their bytes, and to what they say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from support.onnx_seeds import SEEDS

__all__ = ["damaged"]

HUGE = (0, -1, -2, 1, 2, 3, 7, 255, 2**15, 2**24, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
OPERATORS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Concat", "Split", "Slice", "Gather", "Reshape", "Transpose",
    "Pad", "AveragePool", "MaxPool", "BatchNormalization", "Identity", "Cast", "Resize", "Expand", "Softmax", "TopK",
    "If", "Loop", "Scan", "Constant", "ConstantOfShape", "Range", "Tile", "OneHot", "Einsum", "LSTM", "Nonsense",
    "DepthToSpace", "SpaceToDepth", "Squeeze", "Unsqueeze", "Shape", "ReduceMean", "InstanceNormalization", "Flatten",
    "LRN", "LpPool", "MaxUnpool", "RoiAlign", "NonZero", "Where", "QuantizeLinear", "DequantizeLinear", "GridSample",
)  # fmt: skip
LOCATIONS = (
    "../w.bin",
    "/etc/passwd",
    "",
    "w.bin",
    "nothing",
    "C:\\w.bin",
    "a/../../w.bin",
    ".",
    "w.bin/x",
    "\0",
    "link",
)
Random = random.Random


def _graphs(proto: onnx.ModelProto) -> list[Any]:
    def below(nodes: Any) -> Iterator[onnx.GraphProto]:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield attribute.g
                    yield from below(attribute.g.node)

    found: list[Any] = [proto.graph, *below(proto.graph.node), *proto.functions]
    return [graph for graph in found if len(graph.node)]


def _node(rng: Random, proto: onnx.ModelProto) -> tuple[Any, onnx.NodeProto]:
    graph = rng.choice(_graphs(proto))
    return graph, rng.choice(graph.node)


def _names(graph: Any) -> list[str]:
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    return [*names, *(i if isinstance(i, str) else i.name for i in graph.input), "", "unknown"]


def _inputs(rng: Random, proto: onnx.ModelProto) -> None:
    graph, node = _node(rng, proto)
    what = rng.randrange(4)
    if what == 0 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif what == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(graph))
    elif what == 2:
        node.input.append(rng.choice(_names(graph)))
    elif node.input:
        node.input[rng.randrange(len(node.input))] = ""


def _outputs(rng: Random, proto: onnx.ModelProto) -> None:
    graph, node = _node(rng, proto)
    what = rng.randrange(3)
    if what == 0 and node.output:
        del node.output[rng.randrange(len(node.output))]
    elif what == 1 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice(_names(graph))
    else:
        node.output.append(f"more{rng.randrange(3)}")


def _nodes(rng: Random, proto: onnx.ModelProto) -> None:
    graph, node = _node(rng, proto)
    what = rng.randrange(5)
    if what == 0:
        graph.node.remove(node)
    elif what == 1:
        graph.node.append(node)
    elif what == 2:
        node.op_type = rng.choice(OPERATORS)
    elif what == 3:
        node.domain = rng.choice(["com.microsoft", "nobody", "ai.onnx.ml", "local", ""])
    else:
        listed = list(graph.node)
        rng.shuffle(listed)
        del graph.node[:]
        graph.node.extend(listed)


def _number(rng: Random) -> int:
    return rng.choice(HUGE) if rng.random() < 0.7 else rng.randrange(-4, 12)


def _add_attribute(rng: Random, node: onnx.NodeProto) -> None:
    """Another attribute that the operator has, with any numbers."""
    if not onnx.defs.has(node.op_type):
        return
    kinds = onnx.defs.get_schema(node.op_type).attributes
    given = {attribute.name for attribute in node.attribute}
    free = sorted(name for name in kinds if name not in given)
    if not free:
        return
    name = rng.choice(free)
    kind = kinds[name].type
    made: Any = {
        onnx.defs.OpSchema.AttrType.INT: _number(rng),
        onnx.defs.OpSchema.AttrType.INTS: [_number(rng) for _ in range(rng.choice([1, 2, 2, 4, 4, 5]))],
        onnx.defs.OpSchema.AttrType.FLOAT: rng.choice([0.0, -1.0, 1e38, float("nan"), 0.5]),
        onnx.defs.OpSchema.AttrType.STRING: rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID", "linear", "edge", ""]),
    }.get(kind)
    if made is not None:
        node.attribute.append(helper.make_attribute(name, made))


def _attributes(rng: Random, proto: onnx.ModelProto) -> None:
    _, node = _node(rng, proto)
    if not node.attribute or rng.random() < 0.5:
        _add_attribute(rng, node)
        return
    attribute = rng.choice(node.attribute)
    what = rng.choice([0, 1, 1, 1, 2, 3, 4, 4, 4])
    if what == 0:
        node.attribute.remove(attribute)
    elif what == 1 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = _number(rng)
    elif what == 2 and attribute.ints:
        del attribute.ints[rng.randrange(len(attribute.ints))]
    elif what == 3:
        attribute.type = rng.randrange(15)
    elif attribute.HasField("t"):
        _damage_tensor(rng, attribute.t)
    elif attribute.HasField("s"):
        attribute.s = rng.choice([b"", b"SAME_LOWER", b"\xff\xfe", b"nearest", b"cubic", b"x" * 5000])
    elif attribute.HasField("f"):
        attribute.f = rng.choice([0.0, -1.0, 1e38, float("nan"), float("inf")])
    else:
        attribute.i = _number(rng)


def _damage_tensor(rng: Random, tensor: onnx.TensorProto) -> None:
    what = rng.randrange(9)
    if what == 0:
        tensor.dims.append(_number(rng))
    elif what == 1 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = _number(rng)
    elif what == 2 and tensor.dims:
        del tensor.dims[rng.randrange(len(tensor.dims))]
    elif what == 3:
        tensor.data_type = rng.randrange(30)
    elif what == 4 and tensor.HasField("raw_data"):
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif what == 5 and tensor.raw_data:
        array = numpy_helper.to_array(tensor).copy()
        flat = array.reshape(-1)
        if array.dtype.kind == "i" and flat.size:
            flat[rng.randrange(flat.size)] = max(
                min(_number(rng), np.iinfo(array.dtype).max), np.iinfo(array.dtype).min
            )
        elif array.dtype.kind == "f" and flat.size:
            flat[rng.randrange(flat.size)] = rng.choice([np.nan, np.inf, -np.inf, 6e4, 0])
        tensor.raw_data = array.tobytes()
    elif what == 6:
        tensor.name = rng.choice(["", "x", "y", "w", "other"])
    elif what == 7:
        tensor.data_location = T.EXTERNAL
        tensor.external_data.add(key=rng.choice(["location", "offset", "length"]), value=rng.choice(LOCATIONS))
    elif tensor.external_data:
        entry = rng.choice(tensor.external_data)
        entry.value = (
            rng.choice(LOCATIONS) if entry.key == "location" else rng.choice([str(_number(rng)), "", "x", "1e3"])
        )
    else:
        tensor.float_data.append(1.0)


def _weights(rng: Random, proto: onnx.ModelProto) -> None:
    tensors = proto.graph.initializer
    if tensors and rng.random() < 0.6:
        tensor = rng.choice(tensors)
        shape = [rng.choice([0, 1, 2, 3, 4, 6]) if rng.random() < 0.3 else min(max(n, 0), 64) for n in tensor.dims][:5]
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type) if rng.random() < 0.7 else rng.choice("fdeilbB")
        array = np.full(shape, rng.choice([0, 1, 2, 3, -1, 0.1, 1e-30, 1e30, np.nan])).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif tensors and rng.random() < 0.85:
        _damage_tensor(rng, rng.choice(tensors))
    elif tensors:
        tensors.remove(rng.choice(tensors))


def _forms(rng: Random, proto: onnx.ModelProto) -> None:
    """Inputs, outputs and what is said of values in between."""
    graph = proto.graph
    listed = rng.choice([graph.input, graph.output, graph.value_info])
    if listed is graph.value_info:
        name = rng.choice(_names(graph))
        listed.append(helper.make_tensor_value_info(name, rng.randrange(1, 17), [abs(_number(rng)), "q"]))
        return
    if not listed:
        return
    info = rng.choice(listed)
    what = rng.randrange(7)
    if what == 0:
        info.name = rng.choice(_names(graph))
    elif what == 1:
        info.type.tensor_type.elem_type = rng.randrange(30)
    elif what == 2:
        info.type.tensor_type.ClearField("shape")
    elif what == 3:
        listed.remove(info)
    elif what == 4:
        listed.append(info)
    elif what == 5:
        info.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif info.type.tensor_type.shape.dim:
        rng.choice(info.type.tensor_type.shape.dim).dim_value = _number(rng)


def _header(rng: Random, proto: onnx.ModelProto) -> None:
    what = rng.randrange(6)
    if what == 0:
        proto.opset_import[0].version = rng.choice([*range(1, 30), *HUGE])
    elif what == 1:
        proto.ir_version = rng.choice([*range(1, 14), 2**62, -1])
    elif what == 2:
        proto.opset_import[0].domain = rng.choice(["", "ai.onnx", "ai.onnx.ml", "nobody"])
    elif what == 3:
        del proto.opset_import[:]
    elif what == 4:
        proto.metadata_props.add(key="k", value="v")
        proto.metadata_props.add(key="k", value="v")
    elif proto.functions:
        function = proto.functions[0]
        function.node.append(helper.make_node(function.name, list(function.input), ["circle"], domain=function.domain))
    else:
        proto.graph.sparse_initializer.add()


_OBJECTS: tuple[Callable[[Random, onnx.ModelProto], None], ...] = (
    _inputs, _outputs, _nodes, _forms, _header, *[_attributes] * 10, *[_weights] * 8,
)  # fmt: skip


def _bytes(rng: Random, content: bytes, other: bytes) -> bytes:
    what = rng.randrange(6)
    if what == 0:
        return content[: rng.randrange(len(content))]
    if what == 1:
        start = rng.randrange(len(content))
        return content[:start] + other[rng.randrange(len(other)) :]
    if what == 2:
        start, end = sorted(rng.randrange(len(content)) for _ in range(2))
        return content[:start] + content[end:]
    if what == 3:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        # Names and attributes more often than weights, which may be any numbers.
        at = rng.randrange(len(damaged)) if what == 4 else rng.randrange(min(400, len(damaged)))
        damaged[at] = rng.randrange(256) if rng.random() < 0.5 else damaged[at] ^ (1 << rng.randrange(8))
    return bytes(damaged)


def damaged(seed: int) -> bytes:
    """The content of a damaged file."""
    rng = Random(seed)
    proto = rng.choice(SEEDS)()
    if rng.random() < 0.2:
        return _bytes(rng, proto.SerializeToString(), rng.choice(SEEDS)().SerializeToString())
    if rng.random() < 0.7:  # what the file says of its outputs would give most damage away
        for info in proto.graph.output:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                dim.dim_param = f"free{axis}"
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        try:
            rng.choice(_OBJECTS)(rng, proto)
        except (ValueError, IndexError, TypeError):  # what an earlier damage left cannot be damaged like this
            continue
    return proto.SerializeToString()
