"""Write the README's table of figures from results/, so that no figure there is typed by hand.

python docs/figures.py
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- figures: written by docs/figures.py -->", "<!-- end of figures -->"


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


def updated(readme: str) -> str:
    """The README with the table of today's results."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{table()}\n{END}", readme, flags=re.DOTALL
    )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
