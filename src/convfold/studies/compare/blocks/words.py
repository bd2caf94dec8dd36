"""What the comparison of blocks resolves and what it does not, in sentences chosen by the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.studies.compare.blocks.arms import BLOCKS, LEFT_OUT
from convfold.studies.compare.blocks.results import EARLY, END, Results
from convfold.studies.compare.blocks.verdicts import Kind, Verdict, verdicts
from convfold.studies.compare.contest_words import capital, joined, p_words, reach

__all__ = ["KINDS", "found", "headline", "limits", "number", "sentences", "unit"]

# Seeds that a small effect is meant to have.
ENOUGH = 20
# In the headline; the rest is counted.
MOST_NAMED = 4
KINDS: dict[Kind, str] = {
    "real": "real",
    "scale": "initial scale",
    "unclear": "scale not excluded",
    "open": "unresolved",
}


def number(value: float, question: str = END) -> str:
    """A difference with its sign: losses have two digits more than errors and decibels."""
    return (f"{value:+.4f}" if question == EARLY else f"{value:+.2f}").replace("-", "−")


def unit(results: Results, question: str, task: str) -> str:
    """What a difference is counted in, with a space before it; losses have none."""
    return "" if question == EARLY else f" {results.task(task).measure.unit}"


def found(each: Sequence[Verdict], kind: Kind, better: bool | None = None) -> list[Verdict]:
    """Those of one kind, and of one side where it is asked for."""
    return [v for v in each if v.kind == kind and better in (None, v.better)]


def headline(results: Results) -> str:
    """The outcome in a few sentences: how each block stands to plain, task by task."""
    if _least(results) < 2:
        return "One seed: nothing can be said about whether a block helps."
    said = []
    if results.quick or any(results.settings[task].seeds < ENOUGH for task in results.tasks if task != "sr"):
        said.append("A look and no result: fewer seeds or shorter runs than are meant.")
    said.append("Blocks against plain, folded to the same network.")
    for task in results.tasks:
        each = verdicts(results, END, task)
        real = [_listed(results, END, task, found(each, "real", side)) for side in (True, False)]
        parts = [f"{names} {word}" for names, word in zip(real, ("better", "worse"), strict=True) if names]
        scale, unclear = found(each, "scale"), found(each, "unclear")
        parts += [f"{_count(scale)} had by initial scale alone"] if scale else []
        parts += [f"{_count(unclear)} resolved, but not from the scale controls"] if unclear else []
        told = "; ".join(parts) or "none is resolved"
        said.append(f"{capital(results.task(task).title)}: {told}.")
    return " ".join(said)


def _least(results: Results) -> int:
    return min(results.settings[task].seeds for task in results.tasks)


def _count(each: Sequence[Verdict]) -> str:
    return "1 effect" if len(each) == 1 else f"{len(each)} effects"


def _listed(results: Results, question: str, task: str, each: Sequence[Verdict]) -> str:
    """Labels with their differences, or nothing."""
    named = [
        f"{v.arm.label} ({number(v.claim.difference.mean, question)}{unit(results, question, task)})" for v in each
    ]
    if len(named) > MOST_NAMED:
        return f"{len(named)} arms"
    return joined(named) if named else ""


def _label(results: Results, task: str, arm: str) -> str:
    return results.arm(task, arm).label


def sentences(results: Results, question: str, task: str) -> list[str]:
    """Every verdict on one task."""
    if results.settings[task].seeds < 2:
        return ["There is one seed, so there is no spread and no test."]
    each = verdicts(results, question, task)
    said = [_real(results, question, task, v) for v in found(each, "real")]
    said += [_scale(results, question, task, v) for v in found(each, "scale")]
    said += [_unclear(results, question, task, v) for v in found(each, "unclear")]
    if open_ := found(each, "open"):
        widest = max(reach(v.claim.difference) for v in open_)
        names = joined([v.arm.label for v in open_])
        said.append(
            f"Unresolved: {names}. Differences beyond {number(widest, question)[1:]}{unit(results, question, task)} "
            "either way are excluded for each at 95%, smaller ones are not: this shows neither that these help nor "
            "that they do not."
        )
    return said


def _claimed(results: Results, question: str, task: str, v: Verdict) -> str:
    side = "better" if v.better else "worse"
    pair = v.claim.difference
    return (
        f"{v.arm.label} is {side} than {_label(results, task, v.arm.reference)} by "
        f"{number(pair.mean, question)}{unit(results, question, task)} ({p_words(pair.adjusted)})"
    )


def _real(results: Results, question: str, task: str, v: Verdict) -> str:
    said = f"Real: {_claimed(results, question, task, v)}"
    if not v.held:
        return f"{said}: both start at one scale, so that does not explain it."
    held = joined([_label(results, task, c) for c in v.held])
    return f"{said}, and than {held} too: initial scale does not explain it."


def _scale(results: Results, question: str, task: str, v: Verdict) -> str:
    parts = []
    for control in v.explained_by:
        own = results.scale(question, task, control, v.arm.reference).difference
        left = results.scale(question, task, v.arm.name, control).difference
        parts.append(
            f"{_label(results, task, control)} differs from {_label(results, task, v.arm.reference)} by "
            f"{number(own.mean, question)}, and the block from it by {number(left.mean, question)} "
            f"({p_words(left.adjusted)})"
        )
    return f"Initial scale: {_claimed(results, question, task, v)}, but {'; '.join(parts)}."


def _unclear(results: Results, question: str, task: str, v: Verdict) -> str:
    level = joined([_label(results, task, c) for c in v.level_with])
    return (
        f"Not told apart: {_claimed(results, question, task, v)}, but it is not resolved beyond {level}, and these do "
        "not explain it either: whether it is more than initial scale stays open."
    )


def _dirac(results: Results) -> list[str]:
    if "deep" not in results.tasks:
        return []
    return [
        "Plain (Dirac) has the identity in its kernels, so more than another scale: what it accounts for is "
        "initialisation in that wider sense."
    ]


def limits(results: Results) -> list[str]:
    """What the data does not show."""
    edges = [
        f"{results.arm(task, arm).label} on {results.task(task).title}"
        for (task, arm), rate in results.rates.items()
        if rate in (min(results.settings[task].rates), max(results.settings[task].rates))
    ]
    seeds = joined([f"{results.settings[task].seeds} on {results.task(task).title}" for task in results.tasks])
    counts = {results.settings[task].seeds for task in results.tasks}
    fewer = "" if len(counts) == 1 else " Fewer where a run takes longer; the families of tests are the same."
    said = [
        f"Seeds: {seeds}.{fewer}",
        "A verdict is about these networks, these data and this budget. Eight by eight digits, three to eight "
        "convolutions and three test photographs are far from what these blocks were published on.",
        "Each arm's learning rate is the best of "
        + joined(
            [
                f"{', '.join(f'{r:g}' for r in results.settings[t].rates)} ({results.task(t).title})"
                for t in results.tasks
            ]
        )
        + " by validation loss over seeds that do not rank. Everything else of the recipe is one for all arms.",
    ]
    if edges:
        said.append(f"The chosen rate is the least or the largest that was tried for {joined(edges)}: more might help.")
    if lost := [
        f"{results.diverged(task, arm)} of {results.arm(task, arm).label} on {results.task(task).title}"
        for task in results.tasks
        for arm in results.arms[task]
        if results.diverged(task, arm)
    ]:
        said.append(f"Runs that diverged at the chosen rate, and count as they started: {joined(lost)}.")
    said += [
        "Initial scale is that of each layer's output. A block that starts at plain's function and scale still takes "
        "other steps at one learning rate; the rate is tuned, but the metric that a block gives to its kernel is what "
        "is compared, not removed.",
        *_dirac(results),
        "The test images are the same for every seed: intervals are about new seeds, and for the small training set "
        "about other images to train on, not about new test images.",
        "An interval is not corrected for the number of comparisons, a p-value is.",
        "Where plain has no batch normalisation no arm has: the branched blocks then end their branches in a learned "
        "factor per channel. Put with their own batch normalisations into such a network they would bring those in, "
        "which is another treatment.",
    ]
    if left := [f"{name} ({LEFT_OUT[name]})" for name in LEFT_OUT]:
        said.append(f"Not compared, because plain's architecture is not what they deploy: {'; '.join(left)}.")
    if missing := [name for name in BLOCKS if name not in results.blocks]:
        said.append(f"Left out by the call: {joined(missing)}.")
    return said
