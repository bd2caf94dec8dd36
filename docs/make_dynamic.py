"""Write the tables of docs/dynamic.md from results/, so that no figure there is typed by hand.

python docs/make_dynamic.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marked import ROOT, filled, results

from convfold.files import write_text
from convfold.studies.compare.dynamic.arms import ARMS, STATIC

PAGE = ROOT / "docs" / "dynamic.md"
BEGIN, END = "<!-- {}: written by docs/make_dynamic.py -->", "<!-- end of {} -->"


def bench() -> str:
    """What `convfold bench dynamic` measured at 128 channels, and how often the choice was the best way."""
    found = results("bench-dynamic.json")["results"]
    within = sum(row["within"] for row in found)
    wanted = {(4, "forward"): "K = 4", (8, "forward"): "K = 8", (4, "training"): "K = 4, training"}
    wanted[8, "training"] = "K = 8, training"
    rows = []
    for row in found:
        name = wanted.get((row["experts"], row["pass"]))
        if name is None or (row["kind"], row["channels"], row["size"], row["batch"]) != ("dense", 128, 14, 32):
            continue
        over = row["over_static"]
        ways = ("auto", "whole", "loop", "patches", "feature", "timm")
        cells = [f"{over[way]['median']:.2f}" if way in over else "" for way in ways]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return f"""\
CPU time over a static convolution's, 3x3, 128 channels, 14x14, batch 32, one thread (`convfold bench dynamic`,
[results/bench-dynamic.json](../results/bench-dynamic.json)); `timm` is timm's CondConv2d. Over all {len(found)}
cases (dense, depthwise, 1x1; 32 and 128 channels; 14x14 and 56x56; batch 1, 8, 32; K 4 and 8; forward and training)
"auto" is within 5 % of the best way, beyond what equal layers show, in {within}.

| | auto | whole | loop | patches | feature | timm |
|---|---:|---:|---:|---:|---:|---:|
{chr(10).join(rows)}"""


def _stands(against: dict[str, Any] | None) -> bool:
    """Whether a difference from static stands at 5 % after the correction."""
    return bool(against and against["adjusted"] is not None and against["adjusted"] < 0.05)


def _resolved(stand: dict[str, list[str]]) -> str:
    """A sentence for each task: which arms are resolved from static."""
    said = [f"on {task} {', '.join(arms) if arms else 'none'}" for task, arms in stand.items()]
    return f"Resolved from static: {'; '.join(said)}."


def compare() -> str:
    """Errors of all arms, and which differences from static stand after the correction."""
    found = results("compare-dynamic.json")
    pairs = {(pair["task"], frozenset((pair["first"], pair["second"]))): pair["difference"] for pair in found["pairs"]}
    rows = []
    stand: dict[str, list[str]] = {task: [] for task in found["tasks"]}
    for arm in ARMS:
        cells = []
        for task in found["tasks"]:
            error = found["tasks"][task]["arms"][arm]["test_error"]
            against = pairs.get((task, frozenset((STATIC, arm))))
            star = " \\*" if _stands(against) else ""
            stand[task] += [ARMS[arm].label] if star else []
            cells.append(f"{error['mean']:.2f} ({error['low']:.2f} to {error['high']:.2f}){star}")
        cost = found["costs"][arm]
        counts = [f"{cost['macs'] / 1e3:,.0f}", f"{cost['params']:,}", f"{cost['batch']['ratio']:.2f}"]
        rows.append(f"| {ARMS[arm].label} | {' | '.join([*cells, *counts])} |")
    tested = len(pairs)
    return f"""\
Test error in percent, the mean of {found["seeds"]} seeds with its 95 % interval; multiply-accumulates in thousands;
time of a batch of {found["latency_batch"]} over static's. With \\* the difference from static stands at 5 % after
Holm's correction over all {tested} pairs.

| arm | {" | ".join(found["tasks"])} | kMACs | parameters | time |
|---|{"---:|" * len(found["tasks"])}---:|---:|---:|
{chr(10).join(rows)}

{_resolved(stand)}"""


def correlate() -> str:
    """Mean |r| of all arms over the seeds, against static's."""
    found = results("compare-dynamic.json")
    rows = []
    stand: dict[str, list[str]] = {task: [] for task in found["tasks"]}
    for arm in ARMS:
        cells = []
        for name, task in found["tasks"].items():
            seen = task["arms"][arm]
            mean = sum(seen["correlation"]) / len(seen["correlation"])
            against = seen["correlation_against_static"]
            if against is None:
                cells.append(f"{mean:.3f}")
                continue
            star = " \\*" if _stands(against) else ""
            stand[name] += [f"{ARMS[arm].label} ({'more' if against['mean'] > 0 else 'less'} alike)"] if star else []
            cells.append(f"{mean:.3f} ({against['mean']:+.3f}, {against['low']:+.3f} to {against['high']:+.3f}){star}")
        rows.append(f"| {ARMS[arm].label} | {' | '.join(cells)} |")
    return f"""\
Mean |r| in the 3x3 convolutions of the blocks on the test images, over the {found["seeds"]} seeds of the comparison;
in brackets the difference from static with its 95 % interval, \\* where it stands after Holm's correction.

| arm | {" | ".join(found["tasks"])} |
|---|{"---:|" * len(found["tasks"])}
{chr(10).join(rows)}

{_resolved(stand)}"""


SECTIONS: dict[str, Callable[[], str]] = {"bench": bench, "compare": compare, "correlate": correlate}


def updated(page: str) -> str:
    """The page with the tables of today's results."""
    for name, written in SECTIONS.items():
        page = filled(page, BEGIN.format(name), END.format(name), written())
    return page


if __name__ == "__main__":
    write_text(PAGE, updated(PAGE.read_text()))
