"""Write the README's table of figures from results/, so that no figure there is typed by hand.

python docs/figures.py
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {}: written by docs/figures.py -->", "<!-- end of {} -->"
# Of the models measured, those that the README shows.
SHOWN = (
    "repvgg_a0", "mobileone_s0", "fastvit_t8", "repvit_m1", "ghostnetv3_050", "efficientformer_l1", "densenet121",
    "mixnet_s", "inception_v3",
)  # fmt: skip


def _results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / name).read_text())


def _ratio(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f}"


def _rows(fold: list[dict[str, Any]], train: list[dict[str, Any]]) -> list[str]:
    """A row of ratios to the plain convolution for each block."""
    steps = {(row["block"], row["mode"], row["norm"]): row["time"] for row in train}
    rows = []
    for row in fold:
        name = row["block"]
        feature, own = steps.get((name, "feature", None)), steps.get((name, "kernel", None))
        scaled = steps.get((name, "kernel", "scale"))
        kernel = _ratio(own) if own else f"{_ratio(scaled)} \\*" if scaled else ""
        cells = [_ratio(row["wide"]), _ratio(row["folded"]), _ratio(feature) if feature else "", kernel]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return rows


def table() -> str:
    """What was measured, in words and a table."""
    fold, train, deep = (_results(f"{name}.json") for name in ("bench-fold", "bench-train", "deep-blocks"))
    ends = [row["control"][end] for row in fold["results"] for end in ("low", "high")]
    error = max(row["error_float64"] for row in fold["results"])
    tried = sum(row["configurations"] for row in deep["rows"])
    worst = max(row["worst_relative_fold_error"] for row in deep["rows"])
    return f"""\
One thread of a shared CPU; medians of ratios to the plain convolution, timed in turns (in training with its batch
normalisation and ReLU): a dense 3x3, for `dilated` a depthwise 13x13, for `mixconv` a depthwise 7x7. Plain against
itself: {min(ends):.2f} to {max(ends):.2f} (quartiles). The fold's largest error against float64 truth is {error:.1e}
of the largest output here, and {worst:.1e} over {tried:,} random configurations in 1-D to 3-D (`make deep`). The full
figures of `convfold bench fold` and `convfold bench train`, with their settings, stand in [results/](results).

| block | wide | folded | training step, feature mode | training step, kernel mode |
|---|---:|---:|---:|---:|
{chr(10).join(_rows(fold["results"], train["results"]))}

\\* built with `norm="scale"`: batch statistics in the branches leave no kernel while training."""


def _lines(name: str) -> dict[str, dict[str, Any]]:
    """The results of a log, by name; of two of one name the later."""
    lines = (ROOT / "results" / name).read_text().splitlines()
    return {record["name"]: record["result"] for record in map(json.loads, filter(None, lines))}


def _zoo_row(name: str, result: dict[str, Any]) -> str:
    cost, eager = result["cost"], result["latency"]["eager"]

    def cells(key: str, form: str = ",", scale: float = 1) -> str:
        found = [cost[who][key] / scale if who in cost else None for who in ("original", "timm", "convfold")]
        return " / ".join("-" if figure is None else f"{figure:{form}}" for figure in found)

    times = [f"{eager['original']['median']:.2f}", f"{result['latency_onnxruntime']['original']['median']:.2f}"]
    figures = [cells("convolutions", ",.0f"), cells("macs", ",.1f", 1e6), cells("operators", ",.0f"), *times]
    return f"| `{name}` | {' | '.join(figures)} |"


def zoo() -> str:
    """What folding named models gave, in words and a table."""
    results = _lines("zoo.jsonl")
    ratios = [result["float32_ratio"]["convfold"] for result in results.values()]
    theirs = [r["float32_ratio"]["timm"] for r in results.values() if "timm" in r["float32_ratio"]]
    worst = max(result["error_float64"] for result in results.values())
    rows = [_zoo_row(name, results[f"timm:{name}"]) for name in SHOWN]
    return f"""\
{len(results)} models of timm and torchvision, statistics and scales drawn at random, folded from their source as it
is: none got dearer in MACs, convolutions or operators than it was or than timm's own `reparameterize_model` leaves
it. Largest error in float64 {worst:.1e} of the largest output; float32 error over the unfolded model's
{median(ratios):.2f} at the median and {max(ratios):.2f} at most (timm's folds {median(theirs):.2f} and
{max(theirs):.2f}). All lines of `convfold bench zoo` stand in [results/zoo.jsonl](results/zoo.jsonl).
Cells: original / timm's fold / convfold; last, the original's time over the fold's.

| model | convolutions | MMACs | operators | eager | ONNX Runtime |
|---|---:|---:|---:|---:|---:|
{chr(10).join(rows)}"""


SECTIONS = {"figures": table, "models": zoo}


def updated(readme: str) -> str:
    """The README with the tables of today's results."""
    for name, written in SECTIONS.items():
        begin, end = BEGIN.format(name), END.format(name)
        new = f"{begin}\n{written()}\n{end}"
        readme = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, new=new: new, readme, flags=re.DOTALL)
    return readme


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
