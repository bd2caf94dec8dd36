"""The report's sections that are made of many figures: all verdicts at a glance, and each task by itself."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.report import Dots, Figure, Figures, Section, Table, Text, dots
from convfold.studies.compare.blocks.arms import PLAIN, Arm
from convfold.studies.compare.blocks.results import EARLY, END, Results
from convfold.studies.compare.blocks.verdicts import Verdict, verdict
from convfold.studies.compare.blocks.words import KINDS, number, sentences
from convfold.studies.compare.contest_results import Pair
from convfold.studies.compare.contest_words import capital, interval_text
from convfold.studies.statistics import compare
from convfold.studies.words import p_text, signed

__all__ = ["overview", "task_section"]

_LEGEND = [
    "Real: resolved from plain after the correction and, to the same side, from every control of initial scale (for "
    "harm: from plain at the block's own initial scale, where that is not plain's).",
    "Initial scale: resolved from plain, but a plain network of another initial scale is so too, to the same side, "
    "and at 95% less than half of the effect is left between that network and the block.",
    "Scale not excluded: resolved from plain, and neither of these two.",
    "Unresolved: not resolved from plain. That is no proof of equality; what is excluded stands with each task.",
]


def overview(results: Results) -> Section:
    """Every verdict at the end of training, and at its beginning."""
    tables = [
        _verdict_table(results, END, "What is deployed: test error (points, lower is better) and PSNR (dB, higher is)"),
        _verdict_table(results, EARLY, "Mean training loss of the first quarter of training (lower is better)"),
    ]
    said = (
        "Differences from the plain network that an arm starts as (in the deep network plain at He's variance); “own "
        "start” is the block's published one, held against plain as torch draws it."
    )
    return Section("verdicts", "Verdicts", [Text(_LEGEND, listed=True), Text([said]), *tables])


def _verdict_table(results: Results, question: str, caption: str) -> Table:
    names = list(dict.fromkeys(arm.name for task in results.tasks for arm in results.block_arms(task)))
    rows = []
    for name in names:
        cells = [name.replace("-own", " (own start)")]
        for task in results.tasks:
            arm = results.arms[task].get(name)
            cells.append("" if arm is None else _short(question, verdict(results, question, task, arm)))
        rows.append(cells)
    return Table(["arm", *(results.task(task).title for task in results.tasks)], rows, caption)


def _short(question: str, v: Verdict) -> str:
    mean = number(v.claim.difference.mean, question)
    mark = "" if v.kind == "open" else ", better" if v.better else ", worse"
    return f"{mean}: {KINDS[v.kind]}{mark}"


def task_section(results: Results, question: str, task: str) -> Section:
    """What one task shows of one question."""
    of = results.task(task)
    what = of.measure.name if question == END else "early training loss"
    title = of.title if question == END else f"{of.title}: the beginning"
    arms = results.arms[task].values()
    equal = [arm for arm in arms if arm.start == "equal"]
    rest = [arm for arm in arms if arm.start not in ("plain", "equal")]
    figures = [
        _figure(results, question, task, "Equal start", equal, equal[0].reference),
        _figure(results, question, task, "Controls and own starts", rest, PLAIN),
    ]
    lead = "" if question == END else "Training loss is that of the batches, in training mode. "
    said = f"{lead}Small dots are seeds, large ones means, lines 95% intervals; differences are taken seed by seed."
    return Section(
        f"{question}-{task}",
        capital(title),
        [
            Text(sentences(results, question, task), listed=True),
            Text([said]),
            Figures(figures, wide=True),
            _claims(results, question, task, what),
            _scales(results, question, task),
        ],
    )


def _figure(results: Results, question: str, task: str, heading: str, arms: Sequence[Arm], other: str) -> Figure:
    """Each of `arms` minus `other`, seed by seed."""
    against = results.arm(task, other).label
    what = results.task(task).measure.name if question == END else "early loss"
    rows = []
    for arm in arms:
        a, b = (results.values(question, task, name) for name in (arm.name, other))
        pair = compare(a, b)
        each = [x - y for x, y in zip(a, b, strict=True)]
        rows.append(Dots(arm.label, arm.role, each, pair.mean, pair.low, pair.high))
    title = f"{heading}: {what} minus that of {against} of the same seed on {results.task(task).title}, per arm."
    axis = results.task(task).measure.unit if question == END else what
    name = f"{question}-{task}-{heading.split()[0].lower()}"
    return Figure(dots(name, title, rows, f"{axis} above {against}", zero=True), heading=f"{heading}, minus {against}")


def _claims(results: Results, question: str, task: str, what: str) -> Table:
    rows = []
    for name, arm in results.arms[task].items():
        row = [arm.label, number(results.spread(question, task, name).mean, question).lstrip("+")]
        if arm.is_block:
            v = verdict(results, question, task, arm)
            row += [results.arm(task, arm.reference).label, *_figures(v.claim, question), KINDS[v.kind]]
        else:
            row += [""] * 5
        rows.append(row)
    seeds = results.settings[task].seeds
    caption = (
        f"Means over {seeds} seeds, 95% intervals; d_z: paired differences, mean over deviation; Holm over "
        f"{len(results.claims[question])} comparisons of blocks with their references"
    )
    return Table(["arm", what, "minus", *_COLUMNS, "verdict"], rows, caption)


def _scales(results: Results, question: str, task: str) -> Table:
    rows = [
        [results.arm(task, pair.first).label, results.arm(task, pair.second).label, *_figures(pair, question)]
        for (of, _, _), pair in results.scales[question].items()
        if of == task
    ]
    caption = f"Controls of initial scale; Holm over {len(results.scales[question])} comparisons"
    return Table(["arm", "minus", *_COLUMNS], rows, caption)


_COLUMNS = ("difference", "d_z", "p (Holm)")


def _figures(pair: Pair, question: str) -> list[str]:
    found, effect = pair.difference, pair.effect
    ends = (
        ""
        if found.low is None or found.high is None
        else f" ({number(found.low, question)} to {number(found.high, question)})"
    )
    size = "–" if effect.value is None else f"{signed(effect.value)} ({interval_text(effect.low, effect.high)})"
    return [number(found.mean, question) + ends, size, p_text(found.adjusted)]
