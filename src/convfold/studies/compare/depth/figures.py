"""The pictures of ``convfold compare depth``: ratios, theory against measurement, curves, learning rates."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from convfold.report.svg import COLOURS, figure, inline
from convfold.studies.compare.depth.arms import NETWORK, arms_of
from convfold.studies.compare.depth.descent import recorded
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import TASKS
from convfold.studies.compare.depth.results import Results

__all__ = ["network_curves", "ratios", "sweep", "theory", "traces"]

# One hue that grows with depth; one layer is the plain one. Shapes tell them apart without colour.
_STYLES: dict[str, dict[str, Any]] = {
    "depth1": {"color": COLOURS["plain"], "marker": "s"},
    "depth2": {"color": COLOURS["control"], "marker": "o"},
    "depth3": {"color": COLOURS["accent"], "marker": "^", "alpha": 0.55},
    "depth4": {"color": COLOURS["accent"], "marker": "D"},
    "expandnet": {"color": COLOURS["ink"], "marker": "v"},
}
_LABELS = ARMS | {"expandnet": "ExpandNet"}


def _line(arm: str) -> dict[str, Any]:
    return {key: value for key, value in _STYLES[arm].items() if key != "marker"}


def ratios(results: Results, question: str) -> str:
    """Per task, steps of depths 2 to 4 over depth 1's with their intervals, on a logarithmic axis."""
    tasks = results.chains
    with figure(5.2, 0.36 * len(tasks) + 0.9) as drawn:
        axes = drawn.subplots()
        axes.set_xscale("log", base=2)
        for height, task in enumerate(tasks):
            for offset, arm in zip((-0.24, 0.0, 0.24), arms_of(task)[1:], strict=True):
                one = results.comparisons[task, arm, question]
                style = _STYLES[arm]
                if one.interval is not None:
                    axes.plot(one.interval, [height + offset] * 2, linewidth=2.2, color=style["color"], alpha=0.4)
                face = style["color"] if one.sign else "none"
                axes.scatter(
                    [one.ratio], [height + offset], s=20, marker=style["marker"], facecolor=face,
                    edgecolor=style["color"], alpha=style.get("alpha"), linewidth=1.1, zorder=3,
                    label=_LABELS[arm] if height == 0 else None,
                )  # fmt: skip
        axes.axvline(1, color=COLOURS["muted"], linewidth=0.9)
        axes.xaxis.set_major_formatter(lambda value, _: f"×{value:g}")
        axes.set_yticks(range(len(tasks)), [TASKS[task].label for task in tasks])
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(tasks) - 0.4, -0.6)
        axes.set_xlabel("steps, in depth 1's; filled: resolved")
        drawn.legend(loc="outside upper center", ncols=3, handletextpad=0.2)
        return inline(drawn, f"ratios-{question}", "Steps of deeper chains over those of one layer, per task.")


def theory(results: Results, part: str) -> str:
    """Steps that the flow predicts against steps measured, one mark a run, both axes logarithmic."""
    found = results.predictions(part)
    with figure(3.4, 3.3) as drawn:
        axes = drawn.subplots()
        axes.set(xscale="log", yscale="log", xlabel="steps predicted by the flow", ylabel="steps measured")
        for arm in arms_of(results.chains[0]):
            pairs = [(predicted, measured) for _, each, predicted, measured, _ in found if each == arm]
            if pairs:
                x, y = zip(*pairs, strict=True)
                style = _STYLES[arm]
                axes.scatter(
                    x, y, s=11, marker=style["marker"], color=style["color"], alpha=0.5, linewidth=0,
                    label=_LABELS[arm],
                )  # fmt: skip
        if found:
            ends = [value for _, _, predicted, measured, _ in found for value in (predicted, measured)]
            axes.axline((min(ends), min(ends)), (max(ends), max(ends)), color=COLOURS["muted"], linewidth=0.9)
            axes.legend(loc="upper left", handletextpad=0.1)
        return inline(drawn, f"theory-{part}", "Steps measured against steps that theory predicts, per run.")


def traces(results: Results, task: str) -> str:
    """The losses of seed 0 at an equal first decrease and at the best rates, with the flow's as dots."""
    steps = recorded(results.settings.traced_steps)
    with figure(5.2, 2.3) as drawn:
        panels = drawn.subplots(1, 2, sharey=True)
        for axes, part, title in zip(panels, ("equal", "best"), ("equal first decrease", "best rates"), strict=True):
            for arm in arms_of(task):
                run = results.of(task, arm)[0][part]
                losses = [(step, loss) for step, loss in zip(steps, run["curve"], strict=True) if loss is not None]
                axes.plot(*zip(*losses, strict=True), label=_LABELS[arm], **_line(arm))
                predicted = run["predicted"]["curve"]
                axes.scatter(
                    steps[: len(predicted)], predicted, s=7, color=COLOURS["ink"], alpha=0.75, linewidth=0, zorder=3
                )
            axes.set(xscale="symlog", yscale="log", xlabel="step", ylim=(TASKS[task].level / 4, 2.5))
            axes.set_xlim(0, steps[-1])
            axes.set_title(title, fontsize=8.5, color=COLOURS["muted"])
        panels[0].set_ylabel("loss / initial loss")
        panels[0].legend(loc="lower left", handlelength=1.4, labelspacing=0.25)
        return inline(drawn, f"traces-{task}", f"Loss by step for each depth, and the flow's, on {TASKS[task].label}.")


def sweep(results: Results, task: str) -> str:
    """Median steps to the level by learning rate, and where theory has descent break."""
    rates, budget = results.settings.rates, results.budget(task, "best")
    with figure(3.4, 2.6) as drawn:
        axes = drawn.subplots()
        axes.set(yscale="log", xlabel="learning rate", ylabel="steps to the level")
        axes.set_xscale("log", base=2)
        for arm in arms_of(task):
            columns = zip(*(run["steps"] for run in results.of(task, arm)), strict=True)
            middle = [statistics.median(budget if s is None else s for s in column) for column in columns]
            shown = [(rate, max(value, 1)) for rate, value in zip(rates, middle, strict=True) if value < budget]
            if shown:
                axes.plot(*zip(*shown, strict=True), label=_LABELS[arm], marker=".", markersize=4, **_line(arm))
            if (limit := results.mean_limit(task, arm)) is not None:
                axes.axvline(limit[0], linestyle=(0, (2, 2)), linewidth=0.9, **_line(arm))
        if axes.has_data():
            axes.legend(loc="lower left", handlelength=1.4, labelspacing=0.25)
        axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        return inline(drawn, f"sweep-{task}", f"Median steps by learning rate for each depth on {TASKS[task].label}.")


def network_curves(results: Results) -> str:
    """The CNN's training loss and test error by epoch, medians over seeds."""
    with figure(5.2, 2.3) as drawn:
        panels = drawn.subplots(1, 2)
        kinds: Sequence[tuple[str, str, float]] = (
            ("train_loss", "training loss", 1),
            ("test_error", "test error, %", 100),
        )
        for axes, (key, label, scale) in zip(panels, kinds, strict=True):
            for arm in arms_of(NETWORK):
                epochs = range(results.settings.epochs)
                columns = [[run[key][e] for run in results.of(NETWORK, arm) if e < len(run[key])] for e in epochs]
                middle = [scale * statistics.median(column) for column in columns if column]
                axes.plot(range(1, len(middle) + 1), middle, label=_LABELS[arm], **_line(arm))
            axes.set(yscale="log", xlabel="epoch", ylabel=label)
        panels[0].legend(loc="lower left", handlelength=1.4, labelspacing=0.25)
        return inline(drawn, "network-curves", "Training loss and test error of the CNN by epoch, for each depth.")
