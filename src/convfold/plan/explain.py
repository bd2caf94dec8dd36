"""Why: for each operator beside a convolution, what it was folded into, or what keeps it; and the two graphs."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves

from convfold.errors import Refusal
from convfold.geometry import Window
from convfold.graph.captured import Constant
from convfold.graph.maps import Map
from convfold.graph.program import Concat, Elementwise, Linear, Node, Opaque, Program, Spatial
from convfold.plan.whole import Part, Rewriting, Whole

__all__ = ["describe_node", "graphs", "left_alone", "operator_rows"]


def _sizes(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _window(window: Window) -> str:
    """Kernel, stride, dilation and padding, as far as they are not plain."""
    parts = [_sizes(tuple(axis.kernel for axis in window))]
    if any(axis.stride > 1 for axis in window):
        parts.append(f"stride {_sizes(tuple(axis.stride for axis in window))}")
    if any(axis.dilation > 1 for axis in window):
        parts.append(f"dilation {_sizes(tuple(axis.dilation for axis in window))}")
    if any(axis.lo or axis.hi for axis in window):
        even = all(axis.lo == axis.hi for axis in window)
        pads = [axis.lo if even else f"{axis.lo}+{axis.hi}" for axis in window]
        parts.append(f"padding {'x'.join(map(str, pads))}")
    return ", ".join(parts)


def _map_text(m: Map) -> str:
    if m.kind == "conv" and not m.window:
        return f"linear {m.cols} -> {m.rows}"
    if m.kind in ("conv", "transposed"):
        groups = "" if m.groups == 1 else ", depthwise" if m.groups == m.cols else f", {m.groups} groups"
        name = "conv" if m.kind == "conv" else "transposed conv"
        return f"{name} {_window(m.window)}, {m.cols} -> {m.rows}{groups}"
    if m.kind == "pool":
        return f"{'pad' if all(a.kernel == 1 for a in m.window) else 'average pool'} {_window(m.window)}"
    if m.kind == "scalar":
        return "times a number" if m.factor is None else f"times {m.factor:g}"
    return {"identity": "identity", "diagonal": "scale per channel", "select": f"{m.rows} of {m.cols} channels"}[m.kind]


def describe_node(node: Node | None) -> str:
    """A definition in a few words."""
    if isinstance(node, Linear):
        alike = len(node.terms) > 1 and all(term.map.kind == "identity" for term in node.terms)
        text = f"sum of {len(node.terms)}" if alike else " + ".join(_map_text(term.map) for term in node.terms)
        return text if node.shift is None else f"{text} + bias{' map' if node.shift.mapped else ''}"
    if isinstance(node, Concat):
        return f"concatenate {len(node.pieces)}"
    if isinstance(node, Spatial):
        return "change of layout" if node.free else "one linear map of every channel"
    if isinstance(node, Elementwise):
        return "function of each element"
    return "kept as it is" if isinstance(node, Opaque) else "input"


def _operator(program: Program, number: int, node: Node | None) -> str:
    """The operator's name; a repeated one has the name of the one that it repeats."""
    named = node.like if isinstance(node, (Spatial, Elementwise)) else number
    name = program.values[named].place.operator or program.values[number].place.operator
    return name or ("input" if node is None else describe_node(node).split()[0])


def _graph(whole: Rewriting, program: Program, regions: dict[int, int], original: bool) -> dict[str, Any]:
    nodes, edges = [], []
    for number in program.live():
        value, node = program.values[number], program.nodes.get(number)
        cost = None if node is None else whole.pricer(program, number, node, node is whole.before.nodes.get(number))
        nodes.append(
            {
                "id": number,
                "operator": _operator(program, number, node)
                if original or node is whole.before.nodes.get(number)
                else describe_node(node).split(",")[0],
                "module": whole.module_of(number),
                "kind": value.place.kind,
                "line": value.place.line,
                "shape": list(value.shape),
                "macs": 0 if cost is None else cost.macs,
                "operators": 0 if cost is None else cost.operators,
                "region": regions.get(number),
                "text": describe_node(node) if isinstance(node, (Linear, Concat)) else _operator(program, number, node),
            }
        )
        edges += [[source, number] for source in dict.fromkeys(node.inputs if node is not None else ())]
    return {"nodes": nodes, "edges": edges}


def graphs(whole: Rewriting) -> dict[str, Any]:
    """The captured graph before and after, as nodes and edges; values keep their numbers."""
    regions = {value: part.number for part in whole.parts for value in part.values}
    return {
        "before": _graph(whole, whole.before, regions, True),
        "after": _graph(whole, whole.after, regions, False),
    }


def _beside(program: Program, number: int, readers: dict[int, set[int]]) -> bool:
    """Whether a value is linear and a convolution itself, read by one, or reads one."""

    def dense(other: int) -> bool:
        node = program.nodes.get(other)
        return isinstance(node, Linear) and any(term.map.dense for term in node.terms)

    node = program.nodes.get(number)
    if not isinstance(node, (Linear, Concat, Spatial)) or (isinstance(node, Spatial) and node.free):
        return False
    return dense(number) or any(map(dense, (*node.inputs, *readers[number])))


def operator_rows(
    whole: Rewriting, refusals: tuple[Refusal, ...], homes: dict[int, str], path: str = ""
) -> list[dict[str, Any]]:
    """One row for each linear operator that is a convolution or beside one: its outcome and the reason.

    `homes` gives the module that computes each value that is left; `path` is where the captured model stands.
    """
    program, live = whole.before, set(whole.after.live())
    readers = program.users()
    parts: dict[int, Part] = {value: part for part in whole.parts for value in part.values}
    by_place = {refusal.place: refusal for refusal in refusals}
    rows = []
    for number in program.live():
        if not _beside(program, number, readers):
            continue
        place = program.values[number].place
        part = parts.get(number)
        row = {"id": number, "operator": place.operator, "module": place.module, "line": place.line}
        row |= {"region": None if part is None else part.number, "hint": ""}
        if part is not None and number not in live:
            into = [_home(whole, value, homes, path) for value in sorted(part.changed)]
            outcome, reason = f"folded into {', '.join(dict.fromkeys(into))}", "; ".join(part.laws)
        elif part is not None:
            outcome, reason = f"became {describe_node(whole.after.nodes[number])}", "; ".join(part.laws)
        else:
            outcome, (reason, row["hint"]) = "left", _reason(whole, number, place.module, by_place)
        rows.append({**row, "outcome": outcome, "reason": reason})
    return rows


def left_alone(whole: Whole) -> list[Refusal]:
    """Every batch normalisation, and every block that gives its own equation, that stays as it is, and why."""
    known = {refusal.place: refusal for refusal in whole.refusals}
    changed = {value for part in whole.parts for value in part.values}
    program, found = whole.before, dict[str, Refusal]()
    touched = set()
    for number in program.live():
        place = program.values[number].place
        if number in changed:
            touched.add(place.module)
        elif number in program.alternatives and number not in whole.kept:
            if any(path.startswith(f"{place.module}.") or place.module == "" for path in known):
                continue  # what is kept inside it is why, and listed
            reason = whole.found.reasons.get(number, "its parts are cheaper")
            hint = "block.fold() folds it all the same."
            found[place.module] = Refusal(place.kind, reason, place.module, hint)
        elif place.operator == "batch_norm" and not (number in whole.kept and _explained(place.module, known)):
            found.setdefault(place.module, _refused(whole, number, known))
    paths = {call.path for call in whole.captured.calls} | _read_from_outside(whole)
    for path, module in whole.captured.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and path not in paths:
            found[path] = Refusal(type(module).__name__, "the captured run did not reach it", path)
    return [refusal for path, refusal in found.items() if path not in touched and path not in known]


def _read_from_outside(whole: Whole) -> set[str]:
    """The modules whose tensors an operator reads, whether they are called or not."""
    captured = whole.captured
    leaves = (leaf for step in captured.steps.values() for leaf in tree_leaves((step.args, step.kwargs)))
    names = (captured.names.get(leaf.key) for leaf in leaves if isinstance(leaf, Constant))
    return {name.rpartition(".")[0] for name in names if name is not None}


def _explained(path: str, known: dict[str, Refusal]) -> bool:
    """Whether a module, or one around it, is listed already."""
    parts = path.split(".") if path else []
    return any(".".join(parts[:end]) in known for end in range(len(parts) + 1))


def _refused(whole: Whole, number: int, known: dict[str, Refusal]) -> Refusal:
    place = whole.before.values[number].place
    reason, hint = _norm_reason(whole, number, known)
    return Refusal(place.kind, reason, place.module, hint)


def _norm_reason(whole: Whole, number: int, known: dict[str, Refusal]) -> tuple[str, str]:
    module = whole.captured.model.get_submodule(whole.before.values[number].place.module)
    step = whole.captured.steps[number]
    # Position 5 of aten.batch_norm: whether it uses the statistics of the batch.
    if len(step.args) > 5 and step.args[5] is True:
        if getattr(module, "running_mean", None) is None:
            hint = "Build it with track_running_stats=True and let it see data."
            return "it keeps no running statistics, so it is no fixed linear map", hint
        return "it uses the statistics of each batch, in eval mode too, so it is no fixed linear map", ""
    return _reason(whole, number, whole.before.values[number].place.module, known)


def _home(whole: Rewriting, value: int, homes: dict[int, str], path: str) -> str:
    home = ".".join(filter(None, (path, homes.get(value, whole.after.values[value].place.module))))
    return f"{describe_node(whole.after.nodes[value]).split(',')[0]} in {home or 'the model'}"


def _reason(whole: Rewriting, number: int, module: str, by_place: dict[str, Refusal]) -> tuple[str, str]:
    path = module
    while True:
        if path in by_place:
            return by_place[path].reason, by_place[path].hint
        if not path:
            break
        path = path.rpartition(".")[0]
    if number in whole.kept:
        return "it belongs to what is kept as it is", ""
    if number in whole.found.reasons:
        return whole.found.reasons[number], ""
    node = whole.before.nodes[number]
    linear = [s for s in node.inputs if isinstance(whole.before.nodes.get(s), (Linear, Concat, Spatial))]
    if not linear:
        return "nothing linear stands before it to be folded with", ""
    return "no move applies: what it reads is needed as it is", ""
