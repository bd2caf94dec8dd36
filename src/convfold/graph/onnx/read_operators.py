"""Which operators a model may use: those of onnx at its opset, ONNX Runtime's own, and its own functions."""

from __future__ import annotations

from difflib import get_close_matches

import onnx
from onnx import defs

from convfold.errors import InvalidArgument, UnknownName
from convfold.graph.onnx.nodes import STANDARD, is_standard
from convfold.graph.onnx.read_parts import node_name, nodes, printable

__all__ = ["OLDEST", "RUNTIME_DOMAINS", "check_operators"]

# ONNX Runtime promises nothing below.
OLDEST = 7

# Operators of these are left alone: ONNX Runtime has them, and onnx need not know them.
RUNTIME_DOMAINS = frozenset(
    {
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.dml",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)


def check_operators(proto: onnx.ModelProto, where: str) -> None:
    """Raises InvalidArgument when an opset is missing or not supported, or an operator or a domain is unknown."""
    functions = {(function.domain, function.name) for function in proto.functions}
    for part in (proto, *proto.functions):
        opset = _opset(part, where)
        for node in nodes(part.graph if isinstance(part, onnx.ModelProto) else part):
            if (node.domain, node.op_type) in functions:
                continue
            if is_standard(node):
                _check_exists(node, opset, where)
            elif node.domain not in RUNTIME_DOMAINS:
                raise InvalidArgument(
                    f"{node_name(node)} is an operator of an unknown domain",
                    where=where,
                    got=repr(printable(node.domain)),
                    expected="operators of onnx, of ONNX Runtime, or functions in the file",
                    hint="Export the model without custom operators.",
                )
    _check_calls(proto, functions, where)


def _opset(part: onnx.ModelProto | onnx.FunctionProto, where: str) -> int | None:
    """The version of onnx's operators; None where the part imports none and uses none."""
    versions = [entry.version for entry in part.opset_import if entry.domain in STANDARD]
    newest = defs.onnx_opset_version()
    what = "the opset of ai.onnx"
    if isinstance(part, onnx.FunctionProto):
        what = f"{what} in function {printable(part.name)!r}"
    if not versions:
        used = isinstance(part, onnx.ModelProto) or any(is_standard(node) for node in nodes(part))
        if not used:
            return None
        raise InvalidArgument(f"{what} is missing", where=where, expected=f"{OLDEST} to {newest}")
    if len(set(versions)) > 1:
        raise InvalidArgument(f"{what} is given more than once", where=where, got=versions)
    if versions[0] < OLDEST:
        hint = "Convert the model with `onnx.version_converter` or export it again."
    elif versions[0] > newest:
        hint = f"onnx {onnx.__version__} is installed; a newer one may know it."
    else:
        return int(versions[0])
    raise InvalidArgument(
        f"{what} is not supported", where=where, got=versions[0], expected=f"{OLDEST} to {newest}", hint=hint
    )


def _check_exists(node: onnx.NodeProto, opset: int | None, where: str) -> None:
    if opset is not None and defs.has(node.op_type, opset):
        return
    newer = defs.has(node.op_type)
    near = get_close_matches(node.op_type[:80], {schema.name for schema in defs.get_all_schemas()}, n=1)
    hint = "It is newer than the opset." if newer else f"Did you mean {near[0]}?" if near else ""
    raise UnknownName(f"{node_name(node)} is no operator of ai.onnx at opset {opset}", where=where, hint=hint)


def _check_calls(proto: onnx.ModelProto, functions: set[tuple[str, str]], where: str) -> None:
    """A function that calls itself, through others or not, has no meaning and no end."""
    calls = {
        (function.domain, function.name): {
            key for node in nodes(function) if (key := (node.domain, node.op_type)) in functions
        }
        for function in proto.functions
    }
    if len(calls) < len(proto.functions):
        raise InvalidArgument("two functions of the file have the same name", where=where)
    while calls:
        ends = {key for key, called in calls.items() if not called & calls.keys()}
        if not ends:
            name = printable(min(calls)[1])
            raise InvalidArgument("functions of the file call each other in a circle", where=where, got=repr(name))
        calls = {key: called for key, called in calls.items() if key not in ends}
