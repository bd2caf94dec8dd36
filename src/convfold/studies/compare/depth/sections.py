"""The sections of the depth report that are made of many figures: ratios, theory, learning rates, the network."""

from __future__ import annotations

import statistics

from convfold.report import Figure, Figures, Section, Table, Text
from convfold.studies.compare.depth.arms import NETWORK, arms_of
from convfold.studies.compare.depth.figures import network_curves, ratios, sweep, theory, traces
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import TASKS
from convfold.studies.compare.depth.results import CHAIN_QUESTIONS, Comparison, Results
from convfold.studies.compare.depth.words import agreement, factor, groups, network_verdicts, verdict
from convfold.studies.words import p_text, signed

__all__ = ["chains", "every_comparison", "fixed_step", "network_section", "rates_section", "theory_section"]

# One task of each kind that a group has is drawn; the rest is in the tables.
_DRAWN = ("vector", "targets", "matrix", "digits")


def _drawn(results: Results) -> list[str]:
    """Of each group the first task of each kind, with the worse condition where there are two."""
    found: dict[tuple[str, str], str] = {}
    for group, tasks in groups(results).items():
        for task in sorted(tasks, key=lambda name: -TASKS[name].condition):
            found.setdefault((group, TASKS[task].kind), task)
    return [task for kind in _DRAWN for (_, each), task in found.items() if each == kind]


def _cell(one: Comparison) -> str:
    ends = "" if one.interval is None else " ({}–{})".format(*(factor(end)[1:] for end in one.interval))
    return f"{factor(one.ratio)}{ends}{' ★' if one.sign else ''}"


def _ratio_table(results: Results, question: str, caption: str) -> Table:
    arms = arms_of(results.chains[0])
    rows = []
    for task in results.chains:
        missed = [results.seeds - sum(s is not None for s in results.steps(task, arm, question)) for arm in arms]
        base = statistics.median(2**value for value in results.values(task, arms[0], question))
        cells = [_cell(results.comparisons[task, arm, question]) for arm in arms[1:]]
        rows.append([TASKS[task].label, f"{base:.0f}", *cells, " ".join(map(str, missed))])
    columns = ["task", "depth 1, steps", *(ARMS[arm] for arm in arms[1:]), "missed"]
    return Table(columns, rows, caption)


def chains(results: Results) -> Section:
    """Whether deeper chains are faster when each has its best learning rate."""
    said = [verdict(results, group, "best") for group in groups(results)]
    seeds = f"{results.seeds} seeds" if results.seeds > 1 else "1 seed"
    return Section(
        "best",
        "Each at its best learning rate",
        [
            Text(said, listed=True),
            Figures(
                [
                    Figure(ratios(results, "best"), "Left of the line depth is faster.", "Each problem's best rate"),
                    Figure(ratios(results, "shared"), "Rates chosen on other problems.", "One rate for all problems"),
                ],
                wide=True,
            ),
            _ratio_table(
                results,
                "best",
                f"Steps over depth 1's of the same problem: geometric mean, {seeds}, 95% interval; ★ resolved; "
                "missed: seeds that did not get there, depth 1 to 4",
            ),
            Text(
                [
                    "That is one rate for each problem. With one rate for all problems of a task, chosen on other "
                    "problems as the one at which most get there, then by the mean of log steps:"
                ]
            ),
            Text([verdict(results, group, "shared") for group in groups(results)], listed=True),
            _ratio_table(results, "shared", "One rate for all problems of a task: steps over depth 1's"),
        ],
    )


def fixed_step(results: Results) -> Section:
    """Whether deeper chains are faster where the loss falls equally at the first step."""
    said = [verdict(results, group, "equal") for group in groups(results)]
    return Section(
        "equal",
        "At an equal first decrease",
        [
            Text(
                [
                    "Here every depth has the learning rate at which its first step takes the same share of the loss "
                    f"({100 * results.settings.share:g}%, to first order): one layer's rate over the gain of the "
                    "preconditioner at the start. What is left of depth is how that gain changes on the way."
                ]
            ),
            Text(said, listed=True),
            _ratio_table(results, "equal", "Steps to 30% of the initial loss over depth 1's, equal first decrease"),
        ],
    )


def theory_section(results: Results) -> Section:
    """The flow of the end-to-end map against descent."""
    said = [agreement(results, part) for part in ("equal", "best")]
    scatter = [
        Figure(theory(results, "equal"), "Steps to 30% of the loss", "Equal first decrease"),
        Figure(theory(results, "best"), "Steps to the task's level", "Best rates"),
    ]
    drawn = [Figure(traces(results, task), heading=TASKS[task].label) for task in _drawn(results)]
    return Section(
        "theory",
        "Prediction and measurement",
        [
            Text(
                [
                    "Theory: the product W of N balanced factors moves as dW/dt = −Σⱼ (WWᵀ)^((N−j)/N) ∇L "
                    "(WᵀW)^((j−1)/N). The prediction integrates this for the map alone, without factors; the "
                    "measurement is gradient descent on the factors."
                ]
            ),
            Text(said, listed=True),
            Figures(scatter),
            Text(["Lines: descent, seed 0. Dots: the flow at the times step × learning rate."]),
            Figures(drawn, wide=True),
        ],
    )


def rates_section(results: Results) -> Section:
    """Steps over learning rates, and the largest stable one against theory's."""
    rows = []
    for task in results.chains:
        found = [results.mean_limit(task, arm) for arm in arms_of(task)]
        if any(pair is not None for pair in found):
            rows.append([TASKS[task].label, *("–" if f is None else f"{f[0]:.2f} / {f[1]:.2f}" for f in found)])
    parts: list[Text | Table | Figures] = [
        Text(
            [
                "Near the teacher W* descent on squared error shrinks every direction only below the rate "
                "2 / max eig(P(W*) H), H the Hessian of one layer; dashed lines are at that rate."
            ]
        ),
        Figures([Figure(sweep(results, task), heading=TASKS[task].label) for task in _drawn(results)]),
    ]
    if rows:
        arms = arms_of(results.chains[0])
        caption = "Largest learning rate: theory / the largest that was tried and got there, geometric means over seeds"
        parts.append(Table(["task", *(ARMS[arm] for arm in arms)], rows, caption))
    return Section("rates", "Learning rates", parts)


def network_section(results: Results) -> Section:
    """The CNN of linear chains."""
    rows = []
    for arm in arms_of(NETWORK):
        runs = results.of(NETWORK, arm)
        row = [ARMS[arm], f"{results.network_rates[arm]:.3g}"]
        row.append(f"{statistics.geometric_mean(run['final_loss'] for run in runs):.3f}")
        row.append(f"{statistics.fmean(results.values(NETWORK, arm, 'error')):.2f}")
        if arm == arms_of(NETWORK)[0]:
            rows.append([*row, *[""] * 5])
            continue
        loss, error = (results.comparisons[NETWORK, arm, question] for question in ("loss", "error"))
        half = "" if error.difference.half_width is None else f" ± {error.difference.half_width:.2f}"
        rows.append(
            [*row, _cell(loss), p_text(loss.difference.adjusted), signed(error.difference.mean) + half, _effect(error),
             p_text(error.difference.adjusted)]
        )  # fmt: skip
    folded = [run for arm in arms_of(NETWORK) for run in results.of(NETWORK, arm) if "diverged" not in run]
    sizes = {run["folded_parameters"] for run in folded}
    largest = max((run["folded_apart"] for run in folded), default=0.0)
    lost = results.seeds * len(arms_of(NETWORK)) - len(folded)
    columns = ["convolutions", "rate", "loss", "error, %", "loss, in depth 1's", "p (Holm)", "points − depth 1"]
    return Section(
        NETWORK,
        "Convolutions as chains: a small CNN",
        [
            Text(
                [
                    "Three 3×3 convolutions and a linear head, no batch normalisation; each convolution is a chain of "
                    "its kernel and 1×1 convolutions, balanced, or convfold's ExpandNet (1×1, 3×3, 1×1, not widened) "
                    "that starts at identities. SGD without momentum, one rate for each arm by the least validation "
                    f"loss. All were folded after training: {_sizes_text(sizes)} parameters each, scores within "
                    f"{largest:.1g} of the chain's. {'None' if lost == 0 else str(lost)} of them diverged; such a run "
                    "counts with its initial loss and tests at chance."
                ]
            ),
            Text(network_verdicts(results), listed=True),
            Figures([Figure(network_curves(results), "Medians over seeds")], wide=True),
            Table([*columns, "d_z", "p (Holm)"], rows, "Means over seeds; the loss's is geometric; intervals 95%"),
        ],
    )


def _sizes_text(sizes: set[int]) -> str:
    """The numbers of parameters that folded networks have: one, if they are of one class."""
    return " or ".join(f"{size:,}" for size in sorted(sizes))


def _effect(one: Comparison) -> str:
    effect = one.effect
    if effect.value is None:
        return "–"
    if effect.low is None or effect.high is None:
        return signed(effect.value)
    return f"{signed(effect.value)} ({signed(effect.low)} to {signed(effect.high)})"


def every_comparison(results: Results) -> Section:
    """Effects in deviations, with their intervals and p-values, one row each."""
    parts: list[Text | Table | Figures] = []
    for question, name in CHAIN_QUESTIONS.items():
        rows = [
            [f"{TASKS[one.task].label}: {ARMS[one.arm]}", _cell(one), _effect(one), p_text(one.difference.adjusted)]
            for one in results.comparisons.values()
            if one.question == question
        ]
        parts.append(Table(["task and depth", "over depth 1's", "d_z", "p (Holm)"], rows, name.capitalize()))
    said = (
        "Differences of log2 over the same problem. d_z: their mean over their deviation, with its exact 95% interval; "
        "p: Student's paired test after Holm's correction over every comparison of this page. Last losses below "
        "10⁻¹² of the first count as 10⁻¹²."
    )
    return Section("comparisons", "Every comparison", [Text([said]), *parts])
