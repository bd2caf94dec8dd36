"""The comparison's report: which text, tables and figures stand on the page."""

from __future__ import annotations

from convfold.report import Code, Fact, Page, Section, Table, Text
from convfold.studies.compare.dynamic.arms import ARMS, HOTTEST, STATIC, label
from convfold.studies.compare.dynamic.network import EXPERTS
from convfold.studies.compare.dynamic.results import Results
from convfold.studies.compare.dynamic.sections import curves_section, every_pair, seen, task_section
from convfold.studies.compare.dynamic.words import annealing, headline, limits

__all__ = ["page"]


def page(results: Results) -> Page:
    """The report on `results`."""
    sections = [_what_was_done(results)]
    sections += [task_section(results, task) for task in results.tasks]
    sections += [_costs(results), seen(results)]
    if said := annealing(results):
        sections.append(Section("annealing", "Does the temperature help?", [Text(said)]))
    sections += [every_pair(results), *(curves_section(results, task) for task in results.tasks)]
    sections += [Section("limits", "What this data does not show", [Text(limits(results), listed=True)])]
    return Page(
        title="Dynamic convolutions, side by side",
        eyebrow="convfold compare dynamic",
        lead=headline(results),
        facts=_facts(results),
        sections=[*sections, _again(results)],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _facts(results: Results) -> list[Fact]:
    resolved = sum(pair.difference.significant for pair in results.pairs.values())
    ranked = len(results.tasks) * len(results.arms) * results.seeds
    tuned = len(results.tasks) * len(results.arms) * len(results.settings.rates) * results.settings.tuning_seeds
    seeds = "1 seed" if results.seeds == 1 else f"{results.seeds} seeds"
    return [
        Fact(f"{ranked}", f"networks ranked: {len(results.arms)} arms, {len(results.tasks)} tasks, {seeds}"),
        Fact(f"{tuned}", "networks trained before to choose learning rates"),
        Fact(f"{resolved} / {len(results.pairs)}", "pairs of arms resolved (p < 0.05 after Holm)"),
        Fact(f"{results.settings.epochs}", "epochs for every arm"),
    ]


def _what_was_done(results: Results) -> Section:
    settings = results.settings
    recipe = settings.recipe(settings.rates[0])
    digits = results.test_images("digits")
    starts = [[label(arm), *(f"{_initial(results, task, arm):.4f}" for task in results.tasks)] for arm in results.arms]
    return Section(
        "setting",
        "What was compared",
        [
            Text(
                [
                    "One small residual network for 8×8 digits, in which only the convolutions change: static ones; "
                    f"{EXPERTS} blind kernels, mixed equally whatever the image; static ones with "
                    "squeeze-and-excitation gates; static ones in a network of double width; and CondConv, "
                    "DynamicConv and DyNet with "
                    f"{EXPERTS} kernels each, in the layers that their papers mix. DynamicConv runs twice: with its "
                    f"temperature annealed from {HOTTEST:g} to 1 over the first {settings.cooling}, and "
                    "at 1 throughout. The stem is static in every arm.",
                    f"Half of the 1,797 images train, the other {digits} only test. In the second task a fair coin "
                    "inverts each image; the test part holds every image both ways, so that its error is the "
                    "expectation over the coin.",
                    f"One budget for all: {recipe.epochs} epochs of SGD with momentum {recipe.momentum:g}, batches of "
                    f"{recipe.batch_size}, one epoch of warm-up and a cosine to zero, weight decay "
                    f"{recipe.weight_decay:g} on weights. The peak learning rate of each arm is chosen by one rule: "
                    "the least validation loss, on a quarter of the training half, over seeds that do not rank.",
                    "All arms of a seed see the same images in the same order, and start from the static network's "
                    "weights: kernels of a mixture are scattered around the static one, with routers drawn as "
                    "published. SE gates and double width cannot start at the same function.",
                ]
            ),
            Table(
                ["arm", *(f"{task}, initial loss" for task in results.tasks)],
                starts,
                "Cross-entropy over the training images before the first step, mean over seeds",
            ),
        ],
    )


def _initial(results: Results, task: str, arm: str) -> float:
    return results.mean(task, arm, lambda run: run["initial_loss"])


def _costs(results: Results) -> Section:
    base, noise = results.costs[STATIC], results.control
    rows = []
    for arm in results.arms:
        cost = results.costs[arm]
        rows.append(
            [
                label(arm),
                *(f"{results.error(task, arm).mean:.2f}" for task in results.tasks),
                f"{cost.macs:,} (×{cost.macs / base.macs:.2f})",
                f"{cost.params:,} (×{cost.params / base.params:.2f})",
                f"×{cost.single.ratio:.2f}",
                f"×{cost.batch.ratio:.2f}",
            ]
        )
    many = results.latency_batch
    columns = ["arm", *(f"{task}, error %" for task in results.tasks), "MACs", "parameters"]
    said = (
        "MACs and parameters are counted on the network as it is run on one image: mixing kernels and routing are in "
        "them. Latency is CPU time of one forward over static's of the same round, median over rounds. Static "
        f"against itself, middle half of the rounds: {noise[0].low:.2f} to {noise[0].high:.2f} at batch 1, "
        f"{noise[1].low:.2f} to {noise[1].high:.2f} at batch {many}; ratios inside that are noise. Blind kernels "
        "are timed as they are trained; folded, they are a static convolution and cost what static does."
    )
    table = Table(
        [*columns, "latency, batch 1", f"latency, batch {many}"], rows, "What each arm costs beside its error"
    )
    return Section("cost", "What it costs", [Text([said]), table])


def _again(results: Results) -> Section:
    rates = [
        [label(arm), *(f"{results.rates[task, arm]:g}" for task in results.tasks)]
        for arm in ARMS
        if arm in results.arms
    ]
    versions = [[name, version] for name, version in results.versions.items()]
    return Section(
        "again",
        "Do it again",
        [
            Text(
                [
                    "The command gives the same networks again; it goes on from finished runs. "
                    "Weights of seed 0 are kept."
                ]
            ),
            Code(results.command),
            Table(["arm", *(f"{task}, learning rate" for task in results.tasks)], rates, "Chosen learning rates"),
            Table(["package", "version"], versions),
        ],
    )
