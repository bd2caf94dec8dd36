"""Explanations as the planner writes them, of a residual network with branches: how long it is, one may say."""

from __future__ import annotations

from typing import Any

Node = dict[str, Any]
COSTS = ("macs", "convolutions", "operators")
CHANNELS = 48
OUTCOMES = ("collapse", "collapse", "partly", "reorder", "sink", "rolled back")


class Graph:
    """Nodes and edges, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: list[list[int]] = []

    def add(self, operator: str, module: str, *inputs: int, region: int | None = None, **more: Any) -> int:
        node = {"id": len(self.nodes), "operator": operator, "module": module, "kind": operator.title(), "operators": 1}
        node |= {"line": f"net.py:{len(self.nodes) + 10}", "shape": [1, CHANNELS, 28, 28], "macs": 0, "text": operator}
        self.nodes.append({**node, "region": region, **more})
        self.edges += [[source, node["id"]] for source in inputs]
        return node["id"]

    def plain(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "edges": self.edges}


def totals(nodes: list[Node]) -> dict[str, int]:
    convolutions = sum(node["operator"] == "conv2d" for node in nodes)
    macs = sum(node["macs"] for node in nodes)
    return {"macs": macs, "convolutions": convolutions, "operators": len(nodes), "params": macs // 784 + 1}


def explanation(blocks: int = 42, branches: int = 4) -> dict[str, Any]:
    """A network of so many residual blocks, each with two sums of branches; 42 blocks have about 1,000 operators."""
    before, after = Graph(), Graph()
    regions: list[dict[str, Any]] = []
    operators: list[dict[str, Any]] = []
    old, new = before.add("input", "x"), after.add("input", "x")
    for block in range(blocks):
        name = f"stages.{block // 12}.{block % 12}"
        skip = (old, new)
        for part, macs in (("conv_dw", 340_000), ("conv_pw", 1_806_336)):
            number, here = len(regions), f"{name}.{part}"
            outcome = OUTCOMES[number % len(OUTCOMES)]
            start, ends = len(before.nodes), []
            for branch in range(branches):
                conv, spelt = f"{here}.branches.{branch}.conv", "conv 3x3, depthwise 48" if macs < 1e6 else "conv 1x1"
                value = before.add("conv2d", conv, old, region=number, macs=macs, text=spelt)
                ends.append(before.add("batch_norm", f"{here}.branches.{branch}.bn", value, region=number, text="BN"))
            ends.append(before.add("batch_norm", f"{here}.identity", old, region=number, text="BN"))
            total = ends[0]
            for end in ends[1:]:
                total = before.add("add", here, total, end, region=number)
            mine = before.nodes[start:]
            if outcome == "rolled back":
                copy = {node["id"]: after.add(**_again(node)) for node in mine}
                after.edges += [
                    [copy.get(a, new), copy[b]] for a, b in before.edges if b in copy and (a in copy or a == old)
                ]
                now = copy[total]
            else:
                now = after.add("conv2d", here, new, region=number, macs=macs, text="conv 3x3" if macs < 1e6 else "1x1")
            cost = totals(mine)
            cheap = cost if outcome == "rolled back" else {"macs": macs, "convolutions": 1, "operators": 1, "params": 9}
            laws = ["chain: BN after a convolution scales its rows", "sum: kernels of one root add up"]
            regions.append(
                {"id": number, "outcome": outcome, "result": "Conv2d(48, 48, 3)", "laws": laws, "before": cost}
                | {"after": cheap, "modules": [here], "error": 1.2e-16 * (number + 1), "bound": 1e-13}
            )
            operators += [
                {key: node[key] for key in ("id", "operator", "module", "line")}
                | {"outcome": f"folded into {here}", "reason": "", "hint": ""}
                for node in mine
                if node["operator"] == "batch_norm"
            ]
            old, new = before.add("relu", f"{here}.act", total), after.add("relu", f"{here}.act", now)
            if part == "conv_dw":
                old, new = _excited(before, old, name, operators), _excited(after, new, name, None)
        old, new = before.add("add", name, old, skip[0]), after.add("add", name, new, skip[1])
    before.add("linear", "head.fc", old, macs=48_000, text="linear, 48->1000")
    after.add("linear", "head.fc", new, macs=48_000, text="linear, 48->1000")
    refusals = [
        {"operator": "conv2d", "place": row["module"], "reason": row["reason"], "hint": row["hint"]}
        for row in operators
        if row["outcome"] == "left"
    ]
    return {
        "model": "MobileNine", "inputs": "float32 [1, 3, 224, 224]", "objective": "macs",
        "before": totals(before.nodes), "after": totals(after.nodes),
        "graphs": {"before": before.plain(), "after": after.plain()},
        "regions": regions, "operators": operators, "refusals": refusals,
    }  # fmt: skip


def _again(node: Node) -> Node:
    return {key: value for key, value in node.items() if key != "id"}


def _excited(graph: Graph, value: int, name: str, operators: list[dict[str, Any]] | None) -> int:
    """Squeeze and excitation: a long way beside the value itself."""
    pooled = graph.add("mean", f"{name}.se", value, text="mean over height, width")
    first = graph.add("conv2d", f"{name}.se.fc1", pooled, macs=2304, text="conv 1x1, 48->12")
    act = graph.add("relu", f"{name}.se.act", first)
    second = graph.add("conv2d", f"{name}.se.fc2", act, macs=2304, text="conv 1x1, 12->48")
    gate = graph.add("sigmoid", f"{name}.se.gate", second)
    for conv in (first, second) if operators is not None else ():
        node = graph.nodes[conv]
        row = {key: node[key] for key in ("id", "operator", "module", "line")}
        reason = "its only linear neighbour is a mean, and to swap them is no cheaper"
        operators.append(row | {"outcome": "left", "reason": reason, "hint": "Nothing to do."})  # type: ignore[union-attr]
    return graph.add("mul", f"{name}.se", value, gate, text="mul")


def single(text: str = "conv 1x1", module: str = "conv") -> dict[str, Any]:
    """One operator, and nothing folds."""
    graph = Graph()
    graph.add("conv2d", module, text=text, macs=9)
    cost = totals(graph.nodes)
    return {
        "model": "One", "inputs": "float32 [1, 3, 8, 8]", "objective": "macs", "before": cost, "after": cost,
        "graphs": {"before": graph.plain(), "after": graph.plain()}, "regions": [], "operators": [], "refusals": [],
    }  # fmt: skip
