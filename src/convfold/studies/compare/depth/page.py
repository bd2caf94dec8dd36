"""The depth report: which text, tables and figures stand on the page."""

from __future__ import annotations

from convfold.report import Code, Fact, Page, Section, Table, Text
from convfold.studies.compare.depth.arms import DEPTHS, NETWORK, arms_of
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import INPUTS, OUTPUTS, SAMPLES, TASKS
from convfold.studies.compare.depth.results import Results
from convfold.studies.compare.depth.sections import (
    chains,
    every_comparison,
    fixed_step,
    network_section,
    rates_section,
    theory_section,
)
from convfold.studies.compare.depth.words import headline, limits

__all__ = ["page"]


def page(results: Results) -> Page:
    """The report on `results`."""
    sections = [_what_was_done(results)]
    if results.chains:
        sections += [chains(results), fixed_step(results), theory_section(results), rates_section(results)]
    if NETWORK in results.tasks:
        sections.append(network_section(results))
    if results.chains:
        sections.append(every_comparison(results))
    sections.append(Section("limits", "What this data does not show", [Text(limits(results), listed=True)]))
    return Page(
        title="Is learning a product easier than learning one factor?",
        eyebrow="convfold compare depth",
        lead=headline(results),
        facts=_facts(results),
        sections=[*sections, _again(results)],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _facts(results: Results) -> list[Fact]:
    found = results.comparisons.values()
    descents = len(results.chains) * len(DEPTHS) * (results.seeds * (len(results.settings.rates) + 2))
    seeds = "1 seed" if results.seeds == 1 else f"{results.seeds} seeds"
    return [
        Fact(f"{descents:,}", f"descents of chains: {len(results.chains)} tasks, {len(DEPTHS)} depths, {seeds}"),
        Fact(f"{sum(one.sign != 0 for one in found)} / {len(found)}", "comparisons with depth 1 resolved after Holm"),
        Fact(f"{len(results.predictions('equal'))}", "runs beside the flow that theory predicts"),
    ]


def _what_was_done(results: Results) -> Section:
    settings, rates = results.settings, results.settings.rates
    rows = [
        [TASKS[task].label, f"{TASKS[task].level:g}", f"{settings.steps_of(task):,}", task] for task in results.chains
    ]
    said = [
        "A linear map W is learned as a product of 1 to 4 factors. No factor is narrower than W's smaller side, so "
        "every depth has exactly the same maps, and every depth starts at the same one: W₀ = U S Vᵀ is parted into "
        "U S^(1/N), S^(1/N), …, S^(1/N) Vᵀ, which is balanced. The loss is convex in W; all samples are in every step, "
        "in float64.",
        f"Regression: {INPUTS} inputs, {SAMPLES} samples, a teacher W* without noise, loss Σ|Wx − W*x|ᵖ/p, one output "
        f"or {OUTPUTS}. κ is the condition number of the inputs' second moment, whose largest eigenvalue is 1. For "
        "“uneven targets” the inputs are the axes and the teacher's entries fall from 1 to 1/κ. The start is "
        "drawn apart from the teacher, with the given share of its norm. Digits: softmax regression on a third of "
        "scikit-learn's digits, another third for each seed.",
        f"Learning rates: {len(rates)} from 1/{1 / rates[0]:.0f} to {rates[-1]:.3g}, each ×{rates[1] / rates[0]:.3g} "
        f"the last, the same for every depth. Seeds that choose a common rate ({settings.tuning_seeds}) are not "
        "compared.",
    ]
    parts: list[Text | Table] = [Text(said)]
    if rows:
        caption = "Done: from there on the loss is at most this share of the initial one"
        parts.append(Table(["task", "done at", "most steps", "--tasks"], rows, caption))
    return Section("setting", "What was compared", parts)


def _again(results: Results) -> Section:
    parts: list[Text | Code | Table] = [
        Text(["The command gives the same figures again; it goes on from finished runs."]),
        Code(results.command),
    ]
    if NETWORK in results.tasks:
        chosen = [[ARMS[arm], f"{results.network_rates[arm]:.3g}"] for arm in arms_of(NETWORK)]
        parts.append(Table(["convolutions", "learning rate"], chosen, "The network's learning rates"))
    parts.append(Table(["package", "version"], [[name, version] for name, version in results.versions.items()]))
    return Section("again", "Do it again", parts)
