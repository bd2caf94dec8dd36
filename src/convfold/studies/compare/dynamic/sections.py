"""The comparison's sections that are made of many figures: errors, pairs, curves, and what routers and channels do."""

from __future__ import annotations

import statistics

from convfold.report import Curve, Dots, Figure, Figures, Section, Table, Text, curves, dots
from convfold.studies.compare.contest_words import interval_text
from convfold.studies.compare.dynamic.arms import ARMS, STATIC, label
from convfold.studies.compare.dynamic.results import Results
from convfold.studies.compare.dynamic.words import CONTROLS, METHODS, TASK_NAMES, verdicts
from convfold.studies.statistics import Paired
from convfold.studies.words import p_text, signed

__all__ = ["curves_section", "every_pair", "seen", "task_section"]


def _role(arm: str) -> str:
    return "plain" if arm == STATIC else "control" if arm in CONTROLS else "accent"


def task_section(results: Results, task: str) -> Section:
    """Errors on one task, and what they resolve."""
    absolute, difference, rows = [], [], []
    for arm in results.ranked(task):
        found = results.error(task, arm)
        absolute.append(Dots(label(arm), _role(arm), results.errors(task, arm), found.mean, found.low, found.high))
        if arm == STATIC:
            rows.append([label(arm), f"{found.mean:.2f}", "", "", "", "", "", ""])
            continue
        rows.append(_row(results, task, arm))
        each = [a - b for a, b in zip(results.errors(task, arm), results.errors(task, STATIC), strict=True)]
        pair = results.pair(task, arm, STATIC)
        low, high = _ends(pair.difference, pair.first == arm)
        difference.append(Dots(label(arm), _role(arm), each, pair.seen_from(arm), low, high))
    first = results.ranked(task)[0]
    title = f"Test error of each arm on {TASK_NAMES[task]}, one dot per seed; the lowest mean is {label(first)}'s."
    against = f"Test error minus static's of the same seed on {TASK_NAMES[task]}, with 95% intervals, per arm."
    columns = ["arm", "test error, %", "minus static", "95% interval", "d_z", "95% interval", "p", "p (Holm)"]
    return Section(
        f"error-{task}",
        TASK_NAMES[task].capitalize(),
        [
            Text(verdicts(results, task), listed=True),
            Figures(
                [
                    Figure(dots(f"errors-{task}", title, absolute, "test error, %", least=0), heading="Each arm"),
                    Figure(
                        dots(f"differences-{task}", against, difference, "points above static", zero=True),
                        heading="Difference from static",
                    ),
                ],
                wide=True,
            ),
            Table(
                columns,
                rows,
                f"Arms by mean test error over {results.seeds} seeds, {results.test_images(task)} test images each; "
                f"d_z: mean of the paired differences over their deviation; Holm's correction over "
                f"{len(results.pairs)} comparisons, every two arms on every task",
            ),
        ],
    )


def _ends(pair: Paired, forward: bool) -> tuple[float | None, float | None]:
    """The interval of a difference, turned round where the comparison was made the other way."""
    if pair.low is None or pair.high is None:
        return None, None
    return (pair.low, pair.high) if forward else (-pair.high, -pair.low)


def _row(results: Results, task: str, arm: str) -> list[str]:
    pair = results.pair(task, arm, STATIC)
    forward = pair.first == arm
    effect, sign = pair.effect, 1 if forward else -1
    ends = (effect.low, effect.high) if forward else (effect.high, effect.low)
    return [
        label(arm),
        f"{results.error(task, arm).mean:.2f}",
        signed(pair.seen_from(arm)),
        interval_text(*_ends(pair.difference, forward)),
        "–" if effect.value is None else signed(sign * effect.value),
        interval_text(*(None if end is None else sign * end for end in ends)),
        p_text(pair.difference.p),
        p_text(pair.difference.adjusted),
    ]


def every_pair(results: Results) -> Section:
    """A matrix per task: row minus column, a star where it is resolved."""
    tables = []
    for task in results.tasks:
        arms = results.ranked(task)
        rows = [[label(arm), *(_cell(results, task, arm, other) for other in arms)] for arm in arms]
        columns = ["row minus column", *(ARMS[arm].short for arm in arms)]
        tables.append(Table(columns, rows, f"{TASK_NAMES[task].capitalize()}: difference in test error, points"))
    said = "★ stands where the difference is resolved: p < 0.05 after Holm's correction over all pairs of all tasks."
    return Section("pairs", "Every two arms", [Text([said]), *tables])


def _cell(results: Results, task: str, arm: str, other: str) -> str:
    if arm == other:
        return ""
    pair = results.pair(task, arm, other)
    return f"{signed(pair.seen_from(arm))}{' ★' if pair.difference.significant else ''}"


def _curve(results: Results, task: str, arm: str, key: str, factor: float) -> Curve:
    columns = list(zip(*([factor * value for value in run[key]] for run in results.of(task, arm)), strict=True))
    middle = [statistics.median(column) for column in columns]
    x = list(range(1, len(columns) + 1))
    return Curve(label(arm), _role(arm), x, middle, [min(c) for c in columns], [max(c) for c in columns])


def curves_section(results: Results, task: str) -> Section:
    """Learning curves of each method beside static and blind kernels."""
    figures = []
    for arm in METHODS:
        shown = (STATIC, "blind", arm)
        panels = [
            ("training loss", True, [_curve(results, task, each, "train_loss", 1) for each in shown]),
            ("test error, %", True, [_curve(results, task, each, "test_error", 100) for each in shown]),
        ]
        title = f"Learning curves of {label(arm)}, static and blind kernels on {TASK_NAMES[task]}."
        figures.append(Figure(curves(f"curves-{task}-{arm}", title, panels, "epoch"), heading=label(arm)))
    said = (
        "Line: median over seeds; band: all seeds. Both axes are logarithmic in height. Learning rates differ by arm."
    )
    return Section(
        f"learning-{task}", f"Learning curves: {TASK_NAMES[task]}", [Text([said]), Figures(figures, wide=True)]
    )


def seen(results: Results) -> Section:
    """What the routers look at, and how alike channels are."""
    rows = []
    for arm in METHODS:
        spreads = [f"{100 * results.mean(t, arm, lambda run: run['routing']['spread']):.2g}%" for t in results.tasks]
        share = results.mean("inverted", arm, lambda run: run["routing"]["inversion"])
        rows.append([label(arm), *spreads, f"{100 * share:.0f}%"])
    alike = []
    for arm in results.arms:
        cells = [label(arm)]
        for task in results.tasks:
            cells.append(f"{statistics.fmean(results.correlation(task, arm)):.3f}")
            if arm == STATIC:
                cells += ["", ""]
                continue
            pair = results.correlations[task, arm]
            half = "" if pair.half_width is None else f" ± {pair.half_width:.3f}"
            cells += [f"{pair.mean:+.3f}".replace("-", "−") + half, p_text(pair.adjusted)]
        alike.append(cells)
    heads = [head for task in results.tasks for head in (f"{task}, mean |r|", "minus static", "p (Holm)")]
    return Section(
        "seen",
        "What routers and channels do",
        [
            Text(
                [
                    "How far a trained network's coefficients depend on the test image: their deviation over images "
                    "over their mean. At 0% a dynamic convolution is a static one. Of that variance, the share that "
                    "lies between images and their inversions says whether the inversion is what is looked at.",
                    "DyNet's motive is that channels repeat one another. Below is the mean |r| between output channels "
                    "of the blocks' 3×3 convolutions on the test images (Pearson, over images and positions, before "
                    "normalisation), its mean over layers and seeds, and the paired difference from static with its "
                    "95% interval. Double width has more channels, so more pairs.",
                ]
            ),
            Table(
                ["arm", *(f"{task}, deviation" for task in results.tasks), "inverted, share of inversion"],
                rows,
                "Coefficients over test images, mean over layers, experts and seeds",
            ),
            Table(["arm", *heads], alike, "Correlation between channels"),
        ],
    )
