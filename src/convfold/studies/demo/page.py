"""The demo's report: which text, tables and figures stand on the page."""

from __future__ import annotations

import statistics

from convfold.report import Code, Curve, Dots, Fact, Figure, Figures, Page, Section, Table, Text, curves, dots
from convfold.studies.demo.arms import CONTROL, PLAIN, label
from convfold.studies.demo.results import Results
from convfold.studies.demo.sections import certificates, costs, kernels, role
from convfold.studies.demo.words import headline, limits
from convfold.studies.statistics import Paired
from convfold.studies.words import p_text, signed

__all__ = ["page"]


def page(results: Results) -> Page:
    """The report on `results`."""
    return Page(
        title="Train wide, ship plain",
        eyebrow="convfold demo",
        lead=headline(results),
        facts=_facts(results),
        sections=[
            _what_was_done(results),
            _learning(results),
            _errors(results),
            kernels(results),
            costs(results),
            certificates(results),
            Section("limits", "What this data does not show", [Text(limits(results), listed=True)]),
            _again(results),
        ],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _facts(results: Results) -> list[Fact]:
    folds = results.certificates
    widest = max(results.networks.values(), key=lambda network: network.wide["macs"])
    onnx = sum(network.onnx["images"] * len(network.onnx["differing"]) for network in results.networks.values())
    return [
        Fact(f"{len(results.runs)}", f"networks trained: {len(results.arms)} arms, {_counted(results.seeds, 'seed')}"),
        Fact(f"{sum(c['equal'] for c in folds)} / {len(folds)}", "folds certified equal"),
        Fact(f"{max(c['error'] for c in folds):.1e}", "largest relative error of a fold (float32)"),
        Fact(f"×{widest.wide['macs'] / widest.folded['macs']:.1f}", "most work taken away by a fold (MACs)"),
        Fact(f"{results.onnx_differing:,}", f"of {onnx:,} ONNX Runtime predictions differ from PyTorch's"),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _processes(number: int) -> str:
    return "one worker process" if number == 1 else f"{number} worker processes"


def _what_was_done(results: Results) -> Section:
    recipe = results.settings.recipe
    train = "half of scikit-learn's 1,797 handwritten digits"
    return Section(
        "setting",
        "What was done",
        [
            Text(
                [
                    f"A small plain network (three 3×3 convolutions with batch normalisation) learned {train}, "
                    "and the same network with each convolution written wide as a block: "
                    f"{', '.join(results.blocks)}. All arms of a seed start from the same weights; an expanded "
                    "network computes exactly what the plain one does before the first step. After training "
                    "each was folded back to three plain convolutions.",
                    f"One rule for all arms: {recipe.epochs} epochs of SGD with momentum {recipe.momentum:g}, batches "
                    f"of {recipe.batch_size}, learning rate {recipe.learning_rate:g} with a cosine to zero, weight "
                    f"decay {recipe.weight_decay:g} on weights only, never on gammas or biases. The other half, "
                    f"{results.test_images} images, only tests: no epoch, network or arm was chosen by it.",
                    f"“{label(CONTROL)}” is the control for initial scale: the plain network whose batch "
                    "normalisations start at √3, about the scale at which three summed branches would start.",
                ]
            )
        ],
    )


def _curve(results: Results, arm: str, key: str, factor: float) -> Curve:
    rows = [[factor * epoch[key] for epoch in run["epochs"]] for run in results.of(arm)]
    columns = list(zip(*rows, strict=True))
    return Curve(
        label(arm),
        role(arm),
        list(range(1, len(columns) + 1)),
        [statistics.median(column) for column in columns],
        [min(column) for column in columns],
        [max(column) for column in columns],
    )


def _learning(results: Results) -> Section:
    figures = []
    for arm in results.blocks or [CONTROL]:
        shown = list(dict.fromkeys([PLAIN, CONTROL, arm]))
        panels = [
            ("training loss", True, [_curve(results, each, "train_loss", 1) for each in shown]),
            ("test error, %", True, [_curve(results, each, "test_error", 100) for each in shown]),
        ]
        last = results.of(arm)[0]["epochs"][-1]
        title = (
            f"Learning curves of {label(arm)}, plain and the control: training loss and test error by epoch. "
            f"{label(arm)} ends at a loss of {last['train_loss']:.3g} with the first seed."
        )
        figures.append(Figure(curves(f"curves-{arm}", title, panels, "epoch"), heading=label(arm)))
    spread = "Line: median over seeds; band: all seeds." if results.seeds > 1 else "One seed."
    return Section(
        "learning", "Learning curves", [Text([f"{spread} Both axes are logarithmic in height."]), Figures(figures)]
    )


def _interval(pair: Paired) -> str:
    return "–" if pair.low is None or pair.high is None else f"{signed(pair.low)} to {signed(pair.high)}"


def _errors(results: Results) -> Section:
    pairs = results.error_against_plain
    absolute, difference = [], []
    for arm in results.arms:
        found = results.error_spread(arm)
        absolute.append(Dots(label(arm), role(arm), results.errors(arm), found.mean, found.low, found.high))
    for arm in results.others:
        each = [a - b for a, b in zip(results.errors(arm), results.errors(PLAIN), strict=True)]
        difference.append(Dots(label(arm), role(arm), each, pairs[arm].mean, pairs[arm].low, pairs[arm].high))
    rows = [[PLAIN, f"{results.error_spread(PLAIN).mean:.2f}", "", "", "", ""]]
    for arm in results.others:
        pair = pairs[arm]
        mean = f"{results.error_spread(arm).mean:.2f}"
        rows.append([label(arm), mean, signed(pair.mean), _interval(pair), p_text(pair.p), p_text(pair.adjusted)])
    lowest = min(results.arms, key=lambda arm: results.error_spread(arm).mean)
    title = f"Test error of each arm, one dot per seed; the lowest mean is {label(lowest)}'s."
    against = "Test error minus plain's of the same seed, with 95% intervals, per arm."
    return Section(
        "error",
        "Test error",
        [
            Text(
                [
                    "Small dots are seeds, large ones means, lines 95% confidence intervals of the mean. The second "
                    "plot compares within seeds, where both networks had the same start and the same batches: an "
                    "interval that holds zero shows no difference. P-values are Student's paired test; Holm's "
                    "correction accounts for the number of comparisons, the intervals do not, so that of several "
                    "one may miss zero by chance."
                ]
            ),
            Figures(
                [
                    Figure(dots("errors", title, absolute, "test error, %", least=0), heading="Each arm"),
                    Figure(
                        dots("differences", against, difference, "points above plain", zero=True),
                        heading="Difference from plain",
                    ),
                ],
                wide=True,
            ),
            Table(
                ["arm", "test error, %", "minus plain", "95% interval", "p", "p (Holm)"],
                rows,
                f"Mean test error over {_counted(results.seeds, 'seed')}, {results.test_images} images each",
            ),
        ],
    )


def _again(results: Results) -> Section:
    versions = [[name, version] for name, version in results.versions.items()]
    return Section(
        "again",
        "Do it again",
        [
            Text(
                [
                    f"The command below gives the same networks again. It ran with {_processes(results.workers)} "
                    "of one thread each; their number changes no result but latency."
                ]
            ),
            Code(results.command),
            Table(["package", "version"], versions),
        ],
    )
