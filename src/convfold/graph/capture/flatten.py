"""The exported graph as one list of operators: regions that merely wrap are taken in."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from torch import fx

__all__ = ["Flat", "flattened"]


@dataclass
class Flat:
    """Operators in order of execution; `same` gives for a node the one that it stands for."""

    nodes: list[fx.Node] = field(default_factory=list)
    same: dict[fx.Node, fx.Node] = field(default_factory=dict)
    bodies: dict[fx.Node, tuple[Any, ...]] = field(default_factory=dict)
    attributes: dict[fx.Node, Any] = field(default_factory=dict)


def _body(node: fx.Node, owner: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """The graph that the node wraps without changing it, and its arguments."""
    name = getattr(node.target, "__name__", "")
    if name == "wrap_with_set_grad_enabled":
        body, arguments = node.args[1], node.args[2:]
    elif name == "wrap_with_autocast" and node.args[2] is False:
        body, arguments = node.args[4], node.args[5:]
    else:
        return None
    assert isinstance(body, fx.Node)
    return getattr(owner, str(body.target)), arguments


def flattened(module: fx.GraphModule) -> Flat:
    """The nodes of the graph, and of the graphs that it calls under set_grad_enabled or a disabled autocast."""
    flat = Flat()
    _walk(module, flat, {})
    return flat


def _walk(module: fx.GraphModule, flat: Flat, given: dict[fx.Node, fx.Node]) -> Any:
    for node in module.graph.nodes:
        if node.op == "output":
            return node.args[0]
        if node in given:
            flat.same[node] = given[node]
            continue
        if node.op == "get_attr":
            found: Any = module
            for part in str(node.target).split("."):
                found = getattr(found, part)
            flat.attributes[node] = found
        wrapped = _body(node, module) if node.op == "call_function" else None
        if wrapped is not None:
            inner, arguments = wrapped
            holders = [n for n in inner.graph.nodes if n.op == "placeholder"]
            result = _walk(inner, flat, dict(zip(holders, arguments, strict=True)))
            flat.bodies[node] = tuple(result) if isinstance(result, (list, tuple)) else (result,)
            continue
        if node.target is operator.getitem and node.args[0] in flat.bodies:
            flat.same[node] = flat.bodies[node.args[0]][node.args[1]]
            continue
        flat.nodes.append(node)
    return ()
