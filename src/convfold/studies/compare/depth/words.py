"""What the comparison of depths resolves and what it does not, in sentences chosen by the figures themselves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from convfold.studies.compare.contest_words import capital, joined
from convfold.studies.compare.depth.arms import NETWORK, arms_of
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import OUTPUTS, TASKS, Task
from convfold.studies.compare.depth.results import Comparison, Results
from convfold.studies.words import signed

__all__ = ["ENOUGH", "agreement", "factor", "groups", "headline", "limits", "network_verdicts", "said", "verdict"]

# Seeds that a full run has.
ENOUGH = 20


def _group(task: Task) -> str:
    """What decides the answer: the loss, whether the start is small, how many outputs there are."""
    if task.kind == "digits":
        return "digits, softmax"
    power = "squared error" if task.p == 2 else "fourth power"
    outputs = f"{OUTPUTS} outputs" if task.kind == "matrix" else "one output"
    start = "small start" if task.scale < 1 else "start of the teacher's norm"
    return f"{power}, {start}, {outputs}"


def groups(results: Results) -> dict[str, list[str]]:
    """The chains' tasks by what decides the answer."""
    found: dict[str, list[str]] = {}
    for task in sorted(results.chains, key=lambda name: (TASKS[name].kind == "digits", TASKS[name].p)):
        found.setdefault(_group(TASKS[task]), []).append(task)
    return found


def factor(value: float) -> str:
    """A ratio as people write it."""
    return f"×{value:.2f}" if 0.095 <= value < 9.95 else f"×{value:.0f}" if value >= 9.95 else f"×{value:.1g}"


def _asked(results: Results, tasks: Sequence[str], question: str) -> list[Comparison]:
    return [results.comparisons[task, arm, question] for task in tasks for arm in arms_of(task)[1:]]


def _count(number: int, of: int) -> str:
    return "all" if number == of else "none" if number == 0 else str(number)


def _range(found: Sequence[Comparison]) -> str:
    low, high = factor(min(one.ratio for one in found)), factor(max(one.ratio for one in found))
    return low if low == high else f"{low} to {high}"


def verdict(results: Results, group: str, question: str) -> str:
    """One sentence on one question: in how many comparisons of a group depth is faster, slower, and unresolved."""
    found = _asked(results, groups(results)[group], question)
    parts = []
    for sign, word in ((-1, "fewer"), (1, "more")):
        some = [one for one in found if one.sign == sign]
        if some:
            parts.append(f"{word} in {_count(len(some), len(found))} ({_range(some)})")
    if open_ := sum(one.sign == 0 for one in found):
        parts.append(f"unresolved in {_count(open_, len(found))}")
    return f"{capital(group)}, {len(found)} comparisons with depth 1: {joined(parts)}."


def headline(results: Results) -> str:
    """The outcome in a few sentences."""
    if results.seeds < 2:
        return "One seed: nothing can be said about which depth is better."
    said = [f"A look and no result: {results.seeds} seeds, where {ENOUGH} are meant."] if results.seeds < ENOUGH else []
    if results.chains:
        found = _asked(results, results.chains, "best")
        faster = [one for one in found if one.sign < 0]
        slower = sum(one.sign > 0 for one in found)
        said.append(
            f"Each at its best learning rate, a linear chain of depth 2 to 4 needs fewer steps than one layer in "
            f"{len(faster)} of {len(found)} comparisons, more in {slower}, and {len(found) - len(faster) - slower} are "
            "unresolved."
        )
        where = []
        for group, tasks in groups(results).items():
            if count := sum(one.task in tasks for one in faster):
                where.append(f"{group} ({count} of {len(_asked(results, tasks, 'best'))})")
        if faster:
            said.append(f"Fewer are needed only under: {'; '.join(where)}; {_range(faster)} of the steps there.")
    if NETWORK in results.tasks:
        better = [one for one in _network(results, "error") if one.sign < 0]
        worse = [one for one in _network(results, "error") if one.sign > 0]
        parts = [f"{word} for {joined([ARMS[one.arm] for one in some])}" for word, some in
                 (("lower", better), ("higher", worse)) if some]  # fmt: skip
        told = f"{' and '.join(parts)}, beyond chance" if parts else "not resolved from depth 1's for any chain"
        said.append(f"In a small CNN on digits the test error is {told}.")
    return " ".join(said)


def _network(results: Results, question: str) -> list[Comparison]:
    return [results.comparisons[NETWORK, arm, question] for arm in arms_of(NETWORK)[1:]]


def network_verdicts(results: Results) -> list[str]:
    """What is resolved of the CNN: its training loss, its test error."""
    if results.seeds < 2:
        return ["There is one seed, so there is no spread and no test."]
    said = []
    for question, name in (("loss", "last training loss"), ("error", "test error")):
        for one in _network(results, question):
            size = factor(one.ratio) if question == "loss" else f"{signed(one.difference.mean)} points"
            word = {-1: "lower", 0: "not resolved from depth 1's", 1: "higher"}[one.sign]
            said.append(f"{capital(ARMS[one.arm])}: {name} {word} ({size}).")
    return said


def agreement(results: Results, part: str) -> str:
    """How far measured steps are from the flow's."""
    found = results.predictions(part)
    if not found:
        return "No run has both a prediction and a measurement."
    off = [abs(measured / predicted - 1) for _, _, predicted, measured, _ in found]
    apart = [deviation for *_, deviation in found]
    task, arm, *_ = max(found, key=lambda run: run[-1])
    what = (
        f"At an equal first decrease (the first step takes {_percent(results.settings.share)} of the loss, later ones "
        "more where the gain grows)"
        if part == "equal"
        else "At the best learning rates, which are large,"
    )
    return (
        f"{what} the steps measured differ from the flow's by {_percent(statistics.median(off))} in the median of "
        f"{len(found)} runs and {_percent(max(off))} at most; the map itself is off by "
        f"{_percent(statistics.median(apart))} of its way in the median, {_percent(max(apart))} at most "
        f"({TASKS[task].label}, {ARMS[arm]})."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%"


def limits(results: Results) -> list[str]:
    """What the data does not show."""
    settings = results.settings
    rates = settings.rates
    edge = sum(
        run["best_rate"] in (min(rates), max(rates)) for task in results.chains for arm in arms_of(task)
        for run in results.of(task, arm)
    )  # fmt: skip
    total = sum(results.seeds * len(arms_of(task)) for task in results.chains)
    said = [
        "Only plain gradient descent with a constant learning rate is compared on chains, on all samples at once: that "
        "is what the theory is about. The network is trained on batches, with a cosine, and its other layers move too.",
        "A step costs more with more factors; steps are counted here, not seconds. Deployed, all depths cost the same.",
        "A problem that is not done within the budget counts with the whole budget, which brings ratios nearer to 1 "
        "than they are; how many these are is in the tables.",
        "An interval is not corrected for the number of comparisons, a p-value is.",
        "Every chain starts balanced and from one map. Other starts, factors drawn at random for one, differ in "
        "balance and in the map at once.",
    ]
    tried = settings.network_rates
    if ends := [ARMS[arm] for arm, rate in results.network_rates.items() if rate in (min(tried), max(tried))]:
        said.insert(0, f"The network's rate is the least or the largest that was tried for {joined(ends)}.")
    if total:
        said.insert(0, f"Of {total} best learning rates {edge} are the least or the largest that were tried.")
    return said


def said(results: Results) -> dict[str, list[str]]:
    """Everything that the report says in sentences, by what they are about."""
    found = {"headline": [headline(results)]}
    if results.chains:
        for question in ("best", "shared", "equal"):
            found[question] = [verdict(results, group, question) for group in groups(results)]
        found["theory"] = [agreement(results, part) for part in ("equal", "best")]
    if NETWORK in results.tasks:
        found["network"] = network_verdicts(results)
    return found
