"""Where a node comes from, as far as its exporter wrote it down."""

from __future__ import annotations

import ast
import re

import onnx_ir as ir

from convfold.graph.program import Place

__all__ = ["place_of"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_TRACE = "pkg.torch.onnx.stack_trace"
_LINE = re.compile(r'File "([^"]+)", line (\d+)')


def _listed(text: str) -> list[str]:
    """A list of texts that torch's exporter wrote; empty for anything else."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return [str(item) for item in found] if isinstance(found, list) else []


def place_of(node: ir.Node) -> Place:
    """Operator, module and line of a node; where no module is told, the node's own name."""
    scopes, classes = (_listed(node.metadata_props.get(key, "")) for key in (_SCOPES, _CLASSES))
    # The last entry is the operator itself.
    module = scopes[-2] if len(scopes) > 1 else _module(node)
    kind = classes[-2].rpartition(".")[2] if len(classes) > 1 else ""
    lines = _LINE.findall(node.metadata_props.get(_TRACE, ""))
    line = f"{lines[-1][0]}:{lines[-1][1]}" if lines else ""
    return Place(node.op_type, module, kind, line)


def _module(node: ir.Node) -> str:
    """The module in a name as torch's TorchScript exporter gives it; the name itself if it is another's.

    ``/stages/stages.0/stages.0.1/conv/Conv`` is in stages.0.1.conv: what goes on with the name before stands for it.
    """
    name = node.name or (node.outputs[0].name if node.outputs else "") or ""
    *scopes, last = name.split("/")
    if scopes[:1] != [""] or not re.fullmatch(rf"{re.escape(node.op_type)}(_\d+)?", last):
        return name
    parts: list[str] = []
    for scope in scopes[1:]:
        if parts and scope.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(scope)
    return ".".join(parts)
