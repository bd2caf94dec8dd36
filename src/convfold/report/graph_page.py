"""What became of a model, operator by operator: the graph before and after a fold as one page that one can search.

The page is one file: it loads nothing. Its input is plain data, as JSON has it; `graph_page` says which.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from convfold.files import write_text
from convfold.report.environment import environment
from convfold.report.graph_layout import aligned, drawing
from convfold.report.graph_svg import COLOURS, graph_map, graph_svg
from convfold.report.latency import milliseconds

__all__ = ["graph_page", "write_graph_page"]

_SCRIPTS = ("graph_view.js", "graph_panel.js", "graph_search.js", "graph_tables.js")
# Outcome -> (class of its outline, what the legend says).
_OUTCOMES = {
    "collapse": ("collapse", "collapsed into one operator"),
    "partly": ("partly", "collapsed in part"),
    "reorder": ("reorder", "put in a cheaper order"),
    "sink": ("sink", "moved below another operator"),
    "rolled back": ("back", "rolled back: not equal or not cheaper"),
}
_COSTS = (("macs", "MACs"), ("convolutions", "Convolutions"), ("operators", "Operators"), ("params", "Parameters"))
_AIMS = {"macs": "the fewest MACs", "ops": "the fewest operators", "latency": "the shortest time"}


# What a table shows of a row that does not say.
_BLANK: Mapping[str, Any] = dict.fromkeys(
    ("operator", "module", "line", "outcome", "reason", "hint", "result", "id", "error"), ""
) | {"before": {}, "after": {}, "modules": ()}


def graph_page(explanation: Mapping[str, Any]) -> str:
    """The page as one HTML document that asks for nothing from outside. Needs jinja2.

    `explanation` has these keys; all but `graphs` may be missing:

    * `model`, `inputs`, `objective`: text. `before`, `after`: totals `macs`, `convolutions`, `operators`, `params`.
    * `graphs`: `before` and `after`, each with `nodes` and `edges` (pairs of ids). A node has `id`, and if known
      `operator`, `text`, `module`, `kind`, `line`, `shape`, `macs`, `operators`, `region`.
    * `regions`: `id`, `outcome` (collapse, partly, reorder, sink, rolled back), `result`, `laws`, `before`, `after`,
      `modules`, `error`, `bound`.
    * `operators`: one for each linear operator next to a convolution, with `id` of its node before, `operator`,
      `module`, `line`, `outcome` ("folded into ..." or "left"), `reason`, `hint`.
    * `refusals`: `operator`, `place`, `reason`, `hint`.
    * `limits`: sentences, the sizes of inputs that the fold holds for.
    * `latency`: one for each `runtime`, as `FileLatency.to_dict` gives it.

    Raises InvalidArgument for a graph with a cycle, or an edge to a node that it does not list.
    """
    templates = environment()
    from markupsafe import Markup  # noqa: PLC0415

    templates.filters |= {"quantity": quantity, "bare": _bare}
    loader = templates.loader
    assert loader is not None
    sources = [loader.get_source(templates, name)[0] for name in _SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(sources) + "\n})();\n"
    return templates.get_template("graph.html.j2").render(
        **_shown(explanation),
        panes={side: {**pane, **{k: Markup(pane[k]) for k in ("svg", "map")}} for side, pane in _panes(explanation)},
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_embedded(explanation)),
    )


def write_graph_page(path: str | os.PathLike[str], explanation: Mapping[str, Any]) -> None:
    """Write the page to `path`, whole or not at all. Raises FileProblem when the place cannot be written."""
    write_text(path, graph_page(explanation))


def quantity(number: object) -> str:
    """A count in four digits and a unit: 1.362 G, 48, 12.35 k."""
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        return "" if number is None else str(number)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(number) >= size:
            # k begins at 10,000: a smaller count is said in full.
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.{3 if abs(scaled) < 10 else 2 if abs(scaled) < 100 else 1}f} {unit}"
    return f"{number:,.4g}" if isinstance(number, float) else f"{number:,}"


def _bare(number: object) -> str:
    """What a column is sorted by."""
    return str(number) if isinstance(number, (int, float)) else ""


def _embedded(explanation: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element: no character of it can end the element or begin another."""
    text = json.dumps(_finite(explanation), ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def _panes(explanation: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    graphs = explanation["graphs"]
    regions: dict[Hashable, Mapping[str, Any]] = {
        region["id"]: {**region, "outcome": region.get("outcome", ""), "colour": k % COLOURS, "style": _style(region)}
        for k, region in enumerate(explanation.get("regions", ()))
    }
    left = frozenset(row.get("id") for row in explanation.get("operators", ()) if row.get("outcome") == "left")
    most = max((node.get("macs") or 0 for side in graphs.values() for node in side["nodes"]), default=0)
    before = drawing(graphs["before"])
    drawn = {"before": before, "after": aligned(graphs["after"], graphs["before"], before)}
    heights = [one.height for one in drawn.values()]
    panes = []
    for side, picture in drawn.items():
        graph = graphs[side]
        title = f"The graph {side}: {_counted(len(graph['nodes']), 'operator')}"
        pane = {
            "svg": graph_svg(graph, picture, side, title, regions, left if side == "before" else frozenset(), most),
            "map": graph_map(graph, picture, regions, heights),
            "width": round(picture.width),
            "empty": not graph["nodes"],
            "nodes": _counted(len(graph["nodes"]), "operator"),
        }
        panes.append((side, pane))
    return panes


def _style(region: Mapping[str, Any]) -> str:
    return _OUTCOMES.get(str(region.get("outcome")), ("other", ""))[0]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shown(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows beside the graphs."""
    regions = explanation.get("regions", ())
    outcomes = Counter(str(region.get("outcome", "")) for region in regions)
    operators = explanation.get("operators", ())
    return {
        "model": str(explanation.get("model") or "model"),
        "colours": COLOURS,
        "lead": _lead(explanation, regions),
        "facts": [*_facts(explanation), *_times(explanation.get("latency", ()))],
        "notes": [*explanation.get("limits", ()), *_timed(explanation.get("latency", ()))],
        "legend": [
            {"outcome": name, "style": _OUTCOMES.get(name, ("other", name))[0], "count": count, "says": says}
            for name, count in sorted(outcomes.items(), key=lambda item: -item[1])
            for says in [_OUTCOMES.get(name, ("other", name))[1]]
        ],
        "regions": [{**_BLANK, **region, "colour": k % COLOURS} for k, region in enumerate(regions)],
        "operators": [{**_BLANK, **row} for row in operators],
        "left": sum(row.get("outcome") == "left" for row in operators),
        "refusals": _grouped(explanation.get("refusals", ())),
    }


def _lead(explanation: Mapping[str, Any], regions: Sequence[Mapping[str, Any]]) -> str:
    about = [f"Input {explanation['inputs']}"] if explanation.get("inputs") else []
    if explanation.get("objective"):
        aim = str(explanation["objective"])
        about.append(f"planned for {_AIMS.get(aim, aim)}")
    changed = [region for region in regions if region.get("outcome") != "rolled back"]
    if not changed:
        told = "Nothing folds: no region has a cheaper exact form"
    else:
        told = f"{_counted(len(changed), 'region')} rewritten"
    undone = len(regions) - len(changed)
    if undone:
        told += f", {undone:,} rolled back"
    start = ", ".join(about)
    return f"{start}. {told}." if start else f"{told}."


def _facts(explanation: Mapping[str, Any]) -> list[dict[str, str]]:
    before, after = explanation.get("before") or {}, explanation.get("after") or {}
    facts = []
    for key, label in _COSTS:
        if key not in before or key not in after:
            continue
        was, now = before[key], after[key]
        change = "unchanged" if was == now else f"{(now - was) / was:+.1%}".replace("-", "−") if was else ""
        facts.append({"label": label, "before": quantity(was), "after": quantity(now), "change": change})
    return facts


def _times(latency: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Milliseconds before and after in each runtime that was timed."""
    return [
        {
            "label": str(one["runtime"]),
            "before": milliseconds(one["before"]),
            "after": f"{milliseconds(one['after'])} ms",
            "change": f"{one['ratio']['median']:.2f}×",
        }
        for one in latency
        if one.get("ratio")
    ]


def _timed(latency: Sequence[Mapping[str, Any]]) -> list[str]:
    """How it was timed, how sure that is, and what could not be."""
    found = [(str(one["runtime"]), one["ratio"]) for one in latency if one.get("ratio")]
    sure = [f"{runtime} {ratio['low']:.2f} to {ratio['high']:.2f}" for runtime, ratio in found]
    told = [
        "Times are CPU time of one run on one thread with all optimisations: medians over rounds in which both files "
        f"take turns. 2× is twice as fast; quartiles: {', '.join(sure)}."
    ]
    return (told if sure else []) + [f"{one['runtime']}: {one['reason']}." for one in latency if one.get("reason")]


def _grouped(refusals: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Refusals of one reason together, the most frequent first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for refusal in refusals:
        row = {"operator": "", "place": "", **refusal}
        groups[str(refusal.get("reason") or ""), str(refusal.get("hint") or "")].append(row)
    return [
        {"reason": reason, "hint": hint, "places": places}
        for (reason, hint), places in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]
