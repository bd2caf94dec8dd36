"""What the comparison resolves and what it does not, in sentences chosen by the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.studies.compare.contest_words import capital, joined, p_words, reach
from convfold.studies.compare.dynamic.arms import STATIC, label
from convfold.studies.compare.dynamic.network import EXPERTS
from convfold.studies.compare.dynamic.results import Results
from convfold.studies.statistics import adjusted, compare
from convfold.studies.words import signed

__all__ = ["TASK_NAMES", "against", "annealing", "headline", "limits", "verdicts"]

TASK_NAMES = {"digits": "digits", "inverted": "digits with random inversion"}
METHODS = ("condconv", "dynamicconv", "dynamicconv-cold", "dynet")
CONTROLS = ("blind", "se", "wide")
# Seeds that a ranking is meant to have.
ENOUGH = 30


def headline(results: Results) -> str:
    """The outcome in a few sentences."""
    if results.seeds < 2:
        return "One seed: nothing can be said about which of these is better."
    said = []
    if results.seeds < ENOUGH:
        said.append(f"A look and no result: {results.seeds} seeds, where {ENOUGH} are meant.")
    for task in results.tasks:
        better, worse = ([a for a in METHODS if _resolved(results, task, a, STATIC) == sign] for sign in (-1, 1))
        parts = [f"{joined([label(a) for a in better])} resolved below static's error"] if better else []
        parts += [f"{joined([label(a) for a in worse])} resolved above it"] if worse else []
        told = "; ".join(parts) or "no dynamic convolution is resolved from static"
        said.append(f"On {TASK_NAMES[task]}: {told}.")
    return " ".join(said)


def _resolved(results: Results, task: str, arm: str, other: str) -> int:
    """-1 where the arm's error is lower beyond chance, 1 where it is higher, 0 where that is not resolved."""
    pair = results.pair(task, arm, other)
    return (1 if pair.seen_from(arm) > 0 else -1) if pair.difference.significant else 0


def against(results: Results, task: str, arms: Sequence[str], other: str) -> str:
    """One sentence: which of the arms are resolved from the other, and what of the rest is known."""
    lower, higher, open_ = ([a for a in arms if _resolved(results, task, a, other) == sign] for sign in (-1, 1, 0))
    parts = []
    for group, word in ((lower, "lower"), (higher, "higher")):
        if group:
            names = [f"{label(a)} ({signed(results.pair(task, a, other).seen_from(a))} points)" for a in group]
            parts.append(f"{word} for {joined(names)}")
    if open_:
        widest = max(reach(results.pair(task, arm, other).difference) for arm in open_)
        parts.append(
            f"not resolved for {joined([label(a) for a in open_])} (differences beyond {widest:.2f} points "
            "either way are excluded at 95%)"
        )
    return f"Against {label(other)}, the test error is {'; '.join(parts)}."


def verdicts(results: Results, task: str) -> list[str]:
    """What is resolved on one task, question by question."""
    if results.seeds < 2:
        return ["There is one seed, so there is no spread and no test."]
    first, *rest = results.ranked(task)
    tied = [a for a in rest if not _resolved(results, task, first, a)]
    best = f"{capital(label(first))} has the lowest mean error, {results.error(task, first).mean:.2f}%"
    if tied:
        best += f"; it is not resolved from {joined([label(a) for a in tied])}"
        best += ", so this is no ranking of these." if len(tied) > 1 else ", so this is no ranking of the two."
    else:
        best += ", resolved from every other arm."
    said = [best, against(results, task, METHODS, STATIC)]
    said.append(
        f"{against(results, task, METHODS, 'blind')} Blind kernels are {EXPERTS} too, in an equal mixture: only "
        "what is resolved here can be owed to looking at the input."
    )
    said.append(against(results, task, METHODS, "se"))
    said.append(
        f"{against(results, task, METHODS, 'wide')} Double width has about as many parameters as {EXPERTS} kernels, "
        f"and ×{results.costs['wide'].macs / results.costs[STATIC].macs:.1f} static's MACs."
    )
    said.append(_among(results, task))
    pairs = [pair for pair in results.pairs.values() if pair.task == task]
    widths = [pair.difference.half_width for pair in pairs if pair.difference.half_width is not None]
    if widths:
        said.append(
            f"{sum(pair.difference.significant for pair in pairs)} of {len(pairs)} pairs are resolved. A paired "
            f"difference is known to ±{min(widths):.2f} to ±{max(widths):.2f} points (95%); smaller ones can hide."
        )
    return said


def _among(results: Results, task: str) -> str:
    """The three methods against one another."""
    three = ("condconv", "dynamicconv", "dynet")
    found = []
    for index, arm in enumerate(three):
        for other in three[index + 1 :]:
            sign = _resolved(results, task, arm, other)
            low, high = (arm, other) if sign < 0 else (other, arm)
            if sign:
                found.append(f"{label(low)} below {label(high)}")
    if not found:
        return "Among CondConv, DynamicConv (annealed) and DyNet no difference is resolved."
    rest = "" if len(found) == len(three) else "; the rest is not"
    return f"Among the three methods is resolved: {joined(found)}{rest}."


def annealing(results: Results) -> list[str]:
    """Whether a temperature that cools helps: in the loss while it cools, and in the error at the end."""
    if results.seeds < 2:
        return []
    rows = {t: [results.early_loss(t, arm) for arm in ("dynamicconv", "dynamicconv-cold")] for t in results.tasks}
    family = adjusted({task: compare(*values) for task, values in rows.items()})
    said = []
    for task, pair in family.items():
        word = "lower" if pair.mean < 0 else "higher"
        shown = p_words(pair.adjusted)
        stands = f"{word}, {shown}" if pair.significant else f"not resolved, {shown}"
        end = results.pair(task, "dynamicconv", "dynamicconv-cold").difference
        final = "resolved" if end.significant else "not resolved"
        said.append(
            f"{TASK_NAMES[task].capitalize()}: with annealing the mean training loss of the first "
            f"{results.settings.cooling} differs by {pair.mean:+.3f} ({stands}; Holm over the tasks). "
            f"The difference in test error at the end is {final} ({p_words(end.adjusted)})."
        )
    return said


def limits(results: Results) -> list[str]:
    """What the data does not show."""
    settings = results.settings
    rates = ", ".join(f"{rate:g}" for rate in settings.rates)
    edge = [
        f"{label(arm)} on {TASK_NAMES[task]}"
        for (task, arm), rate in results.rates.items()
        if rate in (min(settings.rates), max(settings.rates))
    ]
    said = [
        f"Each arm's learning rate is the best of {rates} by validation loss over {settings.tuning_seeds} seeds that "
        "do not rank. Everything else of the recipe is one for all and tuned for none.",
    ]
    if edge:
        said.append(f"The chosen rate is the least or the largest that was tried for {joined(edge)}: more might help.")
    said += [
        "The test images are the same for every seed: intervals are about new seeds, not about new images.",
        "An interval is not corrected for the number of comparisons, a p-value is: of many intervals some miss zero by "
        "chance.",
        "Eight by eight grey digits, two residual blocks and a short training are far from the networks these methods "
        "were made for, and give a router little to see: its pooled input has few channels. What happens here says "
        "little about ImageNet.",
        "Latencies are of PyTorch on one thread of this machine, in evaluation mode.",
    ]
    return said
