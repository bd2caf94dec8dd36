"""The report's sections on the networks themselves: kernels, costs, certificates."""

from __future__ import annotations

from collections.abc import Callable

from convfold.report import Bar, Figure, Figures, Section, Table, Text, Tile, bars, equation
from convfold.studies.demo.arms import CONTROL, PLAIN, label
from convfold.studies.demo.kernels import KernelView
from convfold.studies.demo.results import Network, Results

__all__ = ["certificates", "costs", "kernels", "role"]


def role(arm: str) -> str:
    """Which of the page's colours an arm has."""
    return "plain" if arm == PLAIN else "control" if arm == CONTROL else "accent"


def _tiles(view: KernelView) -> list[Tile]:
    tiles = [Tile(part.label, part.values, "+" if index else "") for index, part in enumerate(view.parts)]
    # A kernel of one part is already its own sum.
    if view.rescaled:
        tiles.append(Tile("block", view.total, "="))
    return [*tiles, Tile("folded", view.folded, "→" if view.rescaled else "=", strong=True)]


def kernels(results: Results) -> Section:
    """What was trained and what ships, for one pair of channels of each block."""
    figures = []
    worst = 0.0
    for arm in results.blocks:
        view = results.networks[arm].kernels
        if view is None:
            continue
        worst = max(worst, view.mismatch)
        title = f"Kernel of {arm}, channel {view.channel}"
        tail = " Then the batch normalisation after it is folded in." if view.rescaled else ""
        caption = f"y = {view.equation}.{tail}"
        figures.append(Figure(equation(_tiles(view), title), caption, heading=arm))
    words = [
        "The last convolution of each network with seed 0, from one input channel to the output channel of the same "
        "number, where its branches share the work most: what was trained, and the one kernel that ships. "
        "Blue-green is positive, red negative, and pale is near zero; a dashed cell is outside a smaller kernel.",
        f"The parts add up to the block's kernel to within {worst:.1e} of its largest weight.",
    ]
    content: list[Text | Figures] = [Text(words if figures else ["No block was trained, so there is nothing to show."])]
    return Section(
        "kernels", "Kernels before and after the fold", [*content, *([Figures(figures, wide=True)] if figures else [])]
    )


def _bars(results: Results, wide: Callable[[Network], float], folded: Callable[[Network], float]) -> list[Bar]:
    unit = folded(results.networks[PLAIN])
    return [
        Bar(label(arm), role(arm), wide(results.networks[arm]) / unit, folded(results.networks[arm]) / unit)
        for arm in results.arms
    ]


def costs(results: Results) -> Section:
    """MACs, parameters and latency, wide and folded."""
    plain = results.networks[PLAIN].folded
    measures: list[tuple[str, str, Callable[[Network], float], Callable[[Network], float]]] = [
        ("macs", "MACs", lambda n: n.wide["macs"], lambda n: n.folded["macs"]),
        ("params", "Parameters", lambda n: n.wide["params"], lambda n: n.folded["params"]),
        ("latency", "Latency", lambda n: n.wide_latency.ratio, lambda n: n.folded_latency.ratio),
    ]
    figures = []
    for name, heading, wide, folded in measures:
        pairs = _bars(results, wide, folded)
        most = max(pairs, key=lambda pair: pair.start)
        title = (
            f"{heading} relative to plain folded; the largest before folding is {most.label}, {most.start:.1f} times."
        )
        figures.append(Figure(bars(f"cost-{name}", title, pairs, "times plain"), heading=heading))
    rows = []
    for arm in results.arms:
        network = results.networks[arm]
        rows.append(
            [
                label(arm),
                network.mode,
                f"{network.wide['macs']:,}",
                f"{network.folded['macs']:,}",
                f"{network.wide['params']:,}",
                f"{network.folded['params']:,}",
                f"{network.wide_latency.ratio:.2f}",
                f"{network.folded_latency.ratio:.2f}",
            ]
        )
    noise = results.control_latency
    same = all(results.networks[arm].folded == plain for arm in results.arms)
    counted = (
        "Every folded network counts exactly the MACs and parameters of the plain one."
        if same
        else "Not every folded network counts the MACs and parameters of the plain one; the table shows which."
    )
    return Section(
        "cost",
        "What it costs",
        [
            Text(
                [
                    f"Open circle: as trained. Filled: folded. {counted}",
                    f"Latency is the CPU time of one forward of {results.latency_batch} images in eval mode on one "
                    "thread, every network timed in turns, as a ratio to the folded plain network in the same round. "
                    f"Plain timed against its own copy gives {noise.ratio:.2f} (middle half {noise.low:.2f} to "
                    f"{noise.high:.2f}): closer to 1 than that nothing can be told.",
                ]
            ),
            Figures(figures),
            Table(
                ["arm", "trained in", "MACs wide", "folded", "params wide", "folded", "latency wide", "folded"],
                rows,
                "MACs for one image; latency relative to plain, folded",
            ),
        ],
    )


def certificates(results: Results) -> Section:
    """Which folds, expansions and ONNX files were verified, and how closely."""
    rows = []
    for arm in results.arms:
        runs = results.of(arm)
        worst = max((run["certificate"] for run in runs), key=lambda c: c["error"] / c["bound"])
        held = sum(run["certificate"]["equal"] for run in runs)
        onnx = results.networks[arm].onnx
        checked = onnx["images"] * len(onnx["differing"])
        rows.append(
            [
                label(arm),
                f"{held} of {len(runs)}",
                f"{worst['error']:.1e}",
                f"{worst['bound']:.1e}",
                f"{sum(run['changed_predictions'] for run in runs)} of {len(runs) * results.test_images:,}",
                f"{checked - sum(onnx['differing'].values()):,} of {checked:,}",
                f"{onnx['largest_score_difference']:.1e}",
            ]
        )
    starts = results.starts
    held = sum(certificate["equal"] for certificate in starts)
    begun = f"Before training, {held} of {len(starts)} expanded networks were certified equal to plain. "
    sizes = ", ".join(str(batch) for batch in results.networks[PLAIN].onnx["differing"])
    return Section(
        "certificates",
        "Certificates",
        [
            Text(
                [
                    f"{begun if starts else ''}After it each folded network was compared with its wide one on test "
                    "images, random inputs and other map sizes. The bound is derived from the number format and the "
                    "length of the sums, not chosen; the error must stay below it.",
                    "The first seed's folded networks were written as ONNX with a free batch and run in ONNX Runtime "
                    f"on all test images, in batches of {sizes.replace(', ', ' and of ')}.",
                ]
            ),
            Table(
                [
                    "arm",
                    "folds equal",
                    "worst error",
                    "its bound",
                    "predictions changed",
                    "ONNX equal",
                    "ONNX score difference",
                ],
                rows,
            ),
        ],
    )
