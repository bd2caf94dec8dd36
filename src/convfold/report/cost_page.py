"""What a model costs, as one page: modules with bars, a table that one can sort and filter, what-ifs, and a diff.

The page is one file: it loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from convfold.cost import CostReport
from convfold.cost.compare import Comparison, Pair
from convfold.cost.tables.columns import COLUMNS, cell, figures
from convfold.cost.tables.table import step_totals, tree_lines
from convfold.cost.tables.units import human, human_bytes
from convfold.cost.what_if.scenario import Scenario
from convfold.files import write_text
from convfold.report.environment import environment

__all__ = ["cost_page", "write_cost_page"]

_BARS = ("macs", "params", "weight_bytes", "activation_bytes", "traffic_bytes")
_PAIRED = ("macs", "flops", "params", "activation_bytes", "traffic_bytes", "operators")
_TOTALS = (
    ("macs", "MACs", "multiply-accumulates of convolutions and products"),
    ("flops", "FLOPs", "two for each of them, and everything else"),
    ("params", "Parameters", "elements of parameters"),
    ("weight_bytes", "Weights", "bytes of parameters and buffers"),
    ("peak_bytes", "Peak", "the most bytes that are held at once beside weights and inputs"),
    ("activation_bytes", "Activations", "bytes of all that is made"),
    ("traffic_bytes", "Traffic", "bytes that operators read and write"),
)
_NAMED = {name: label for name, label, _ in _TOTALS}
_CHANGED = ("macs", "flops", "params", "traffic_bytes")


def cost_page(
    report: CostReport,
    model: str,
    inputs: str = "",
    versus: Comparison | None = None,
    scenarios: Sequence[Scenario] = (),
) -> str:
    """The page as one HTML document that asks for nothing from outside. Needs jinja2.

    `report` counts the model called `model` on `inputs`, and is the first of `versus`; `scenarios` are of it too.
    """
    templates = environment()
    from markupsafe import Markup  # noqa: PLC0415

    loader = templates.loader
    assert loader is not None
    script = '"use strict";\n(() => {\n' + loader.get_source(templates, "cost_view.js")[0] + "\n})();\n"
    columns = [name for name in COLUMNS if any(figures(row)[name] not in (None, ()) for row in report.rows)]
    return templates.get_template("cost.html.j2").render(
        model=model,
        other="" if versus is None else versus.names[1],
        lead=_lead(report, inputs),
        uncounted=_missed(report, versus),
        facts=_facts(report, versus),
        notes=_notes(report),
        single=versus is None,
        **_compared(versus),
        scenarios=[_scenario(one) for one in scenarios],
        bars=[_NAMED[name] for name in _BARS],
        nodes=_nodes(report),
        columns=[COLUMNS[name] for name in columns] + [_planned_column(one) for one in scenarios],
        rows=_rows(report, columns, scenarios),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_cost_page(path: str | os.PathLike[str], *told: Any) -> None:
    """Write the page of `cost_page` to `path`, whole or not at all. Raises FileProblem when it cannot be written."""
    write_text(path, cost_page(*told))


def _lead(report: CostReport, inputs: str) -> str:
    on = f" on {inputs}" if inputs else ""
    field = report.receptive_field
    seen = f" Receptive field {field:,}." if field else ""
    return f"One forward pass{on}: {len(report.rows)} modules execute {report.operators:,} operators.{seen}"


def _missed(report: CostReport, versus: Comparison | None) -> list[dict[str, Any]]:
    found = [("", report)] + ([] if versus is None else [(versus.names[1], versus.b)])
    return [
        {
            "says": f"{name + ': o' if name else 'O'}perators without a formula count as nothing: totals are too low.",
            "operators": sorted(one.uncounted.items()),
        }
        for name, one in found
        if one.uncounted
    ]


def _notes(report: CostReport) -> list[str]:
    found = [f"Counted in a real run: {report.real_run}"] if report.real_run else []
    return [*found, *(step_totals(report.training).split("\n") if report.training else [])]


def _written(name: str, value: Any) -> str:
    return human_bytes(value) if name.endswith("_bytes") else human(value)


def _facts(report: CostReport, versus: Comparison | None) -> list[dict[str, str]]:
    found = []
    for name, label, says in _TOTALS:
        now = getattr(report, name)
        fact = {"label": label, "says": f"{now:,}: {says}", "value": _written(name, now), "after": "", "change": ""}
        if versus is not None:
            then = getattr(versus.b, name)
            fact |= {"after": _written(name, then), "says": f"{now:,} → {then:,}: {says}", "change": _change(now, then)}
        found.append(fact)
    if report.traffic_bytes:
        value = f"{report.flops / report.traffic_bytes:.3g}"
        fact = {"label": "FLOP / byte", "says": "arithmetic intensity", "value": value, "after": "", "change": ""}
        if versus is not None and versus.b.traffic_bytes:
            fact["after"] = f"{versus.b.flops / versus.b.traffic_bytes:.3g}"
        found.append(fact)
    return found


def _change(now: float, then: float) -> str:
    if not now or now == then:
        return "" if now == then else "new"
    return f"{100 * (then / now - 1):+.1f} %".replace("-", "−") if then < 10 * now else f"×{then / now:.3g}"


def _compared(versus: Comparison | None) -> dict[str, Any]:
    if versus is None:
        return {"pairs": [], "differ": 0, "statuses": [], "pair_columns": []}
    said = Counter(pair.status for pair in versus.pairs)
    differ = len(versus.changed)
    kinds = [("different", differ), *((kind, said[kind]) for kind in ("changed", "gone", "new", "same") if said[kind])]
    return {
        "pairs": [_pair(pair) for pair in versus.pairs],
        "differ": differ,
        "statuses": [*kinds, ("all", len(versus.pairs))],
        "pair_columns": [COLUMNS[name] for name in _PAIRED],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    cells = []
    for name in _PAIRED:
        one, two = pair.figure(name)
        step = (two or 0) - (one or 0)
        text = cell(name, one) if one == two else f"{cell(name, one) or '–'} → {cell(name, two) or '–'}"
        way = "less" if step < 0 else "more" if step > 0 else "figure"
        cells.append({"text": text, "value": step if one != two else 0, "way": way})
    return {
        "path": pair.path.replace("->", "→"),
        "status": pair.status,
        "type": pair.type.replace("->", "→"),
        "cells": cells,
    }


def _scenario(found: Scenario) -> dict[str, Any]:
    facts = []
    for name in _CHANGED:
        now, then = getattr(found.now, name), getattr(found.then, name)
        facts.append(
            {
                "label": _NAMED[name],
                "value": _written(name, now),
                "after": _written(name, then),
                "change": _change(now, then),
            }
        )
    rows = []
    for one in found.changed:
        numbers = (one.now.macs, one.then.macs, one.now.params, one.then.params)
        cells = [{"text": human(value), "value": value, "way": ""} for value in numbers]
        way = "less" if one.ratio < 1 else "more" if one.ratio > 1 else ""
        cells.append({"text": f"{one.ratio:.4g}", "value": one.ratio, "way": way})
        rows.append({"path": one.path, "cells": cells, "closed": f"{one.letters} = {one.numbers}"})
    kept: dict[str, list[str]] = {}
    for left in found.kept:
        kept.setdefault(left.reason, []).append(f"{left.path or '(the model)'} {left.type}")
    return {
        "name": found.name,
        "says": f"{len(found.changed)} layers changed, {len(found.kept)} left as they are",
        "facts": facts,
        "rows": rows,
        "kept": [{"reason": reason, "paths": paths} for reason, paths in kept.items()],
    }


def _nodes(report: CostReport) -> list[dict[str, Any]]:
    lines = tree_lines(report, report.rows)
    above = {path.rpartition(".")[0] for _, path, _ in lines if path}
    nodes = []
    for _, path, found in lines:
        depth = path.count(".") + 1 if path else 0
        nodes.append(
            {
                "path": path,
                "name": path.rpartition(".")[2] or "(the model)",
                "type": found["type"] or "",
                "depth": depth,
                "below": path in above,
                "numbers": [found[name] or 0 for name in _BARS],
                "texts": [cell(name, found[name]) for name in _BARS],
            }
        )
    return nodes


def _rows(report: CostReport, columns: Sequence[str], scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    then = [{one.path: one.then.macs for one in scenario.changed} for scenario in scenarios]
    rows = []
    for row in report.rows:
        found = figures(row)
        cells = [_shown(name, found) for name in columns]
        for told in then:
            value = told.get(row.path)
            text = "" if value is None else human(value)
            cells.append({"text": text, "value": "" if value is None else value, "kind": "count"})
        rows.append({"path": row.path or "(the model)", "cells": cells})
    return rows


def _shown(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    value, kind = found[name], COLUMNS[name].kind
    if kind == "text":
        return {"text": value, "value": None, "kind": kind}
    if kind == "sizes":
        key = value[0] if isinstance(value, tuple) and value else value if isinstance(value, int) else ""
        return {"text": cell(name, value), "value": key, "kind": kind}
    return {"text": cell(name, value), "value": "" if value is None else value, "kind": kind}


def _planned_column(found: Scenario) -> dict[str, str]:
    return {"title": f"{found.name}: MACs", "says": "what the layer would take in this form", "kind": "count"}
