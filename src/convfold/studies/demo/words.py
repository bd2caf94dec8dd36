"""What the demo's figures say and do not say, in sentences chosen by the figures themselves."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.studies.demo.arms import CONTROL, PLAIN, label
from convfold.studies.demo.results import Results
from convfold.studies.statistics import Paired
from convfold.studies.words import p_text

__all__ = ["accuracy", "beginning", "headline", "limits", "sameness", "speed"]


def _names(arms: Sequence[str]) -> str:
    shown = [label(arm) for arm in arms]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _stands(pairs: dict[str, Paired], sign: int, arms: Sequence[str]) -> list[str]:
    return [arm for arm in arms if pairs[arm].significant and pairs[arm].mean * sign > 0]


def headline(results: Results) -> str:
    """The outcome in one or two sentences."""
    runs = len(results.runs)
    folds = sum(certificate["equal"] for certificate in results.certificates)
    kept = "kept its function" if folds == runs else f"kept its function in {folds} of {runs} cases"
    better = _stands(results.error_against_plain, -1, results.blocks)
    worse = _stands(results.error_against_plain, 1, results.blocks)
    if results.seeds < 2:
        effect = "With one seed nothing can be said about accuracy."
    elif not better and not worse:
        effect = "On this small task no block changed the test error beyond chance."
    else:
        said = [f"{_names(better)} lowered"] if better else []
        said += [f"{_names(worse)} raised"] if worse else []
        effect = f"On this small task {' and '.join(said)} the test error beyond chance."
    every = "every fold" if folds == runs else "folding"
    return f"Trained wide, folded to a plain network: {every} {kept}. {effect}"


def accuracy(results: Results) -> list[str]:
    """About the test error of blocks against plain."""
    pairs = results.error_against_plain
    if results.seeds < 2:
        return ["There is one seed, so there is no spread and no test: a difference in this table may be chance alone."]
    said = []
    better, worse = (_stands(pairs, sign, results.blocks) for sign in (-1, 1))
    for arms, verb in ((better, "lower"), (worse, "higher")):
        for arm in arms:
            pair = pairs[arm]
            said.append(
                f"{label(arm)} ends with a {verb} test error than plain by {abs(pair.mean):.2f} points "
                f"(p = {p_text(pair.adjusted)} after Holm's correction), on this data, this network and this "
                "recipe. It does not show that the same holds elsewhere."
            )
    tested = {arm: pairs[arm] for arm in results.blocks if pairs[arm].adjusted is not None}
    if tested and not better and not worse:
        nearest = min(tested, key=lambda arm: tested[arm].adjusted or 0.0)
        said.append(
            f"No block differs significantly from plain in test error: the smallest p-value is "
            f"{p_text(tested[nearest].adjusted)} ({label(nearest)}, after Holm's correction over {len(pairs)} "
            "comparisons). This data does not show that over-parameterised training helps, nor that it harms."
        )
    widths = [pair.half_width for pair in pairs.values() if pair.half_width is not None]
    if widths:
        said.append(
            f"With {results.seeds} seeds and {results.test_images} test images the paired differences are known to "
            f"about ±{max(widths):.2f} points at worst (95%); an effect smaller than that could hide in them."
        )
    return said


def beginning(results: Results) -> list[str]:
    """About the loss in the first epochs, and whether initial scale explains it."""
    if results.seeds < 2:
        return []
    plain, control = results.early_against_plain, results.early_against_control
    span = "first epoch" if results.early_epochs == 1 else f"first {results.early_epochs} epochs"
    faster = _stands(plain, -1, results.blocks)
    control_faster = plain[CONTROL].significant and plain[CONTROL].mean < 0
    said = []
    if not faster:
        said.append(
            f"No block has a significantly lower training loss than plain over the {span}: here, the wide form "
            "starts at the plain network's own function and does not learn faster at first."
        )
        if control_faster:
            said.append(
                f"The control does: a plain network whose BN gammas start at √3 is {-plain[CONTROL].mean:.3f} "
                "lower. Faster early learning can be had from the initial scale alone, so a block that is started "
                "at a larger scale would look faster for that reason."
            )
        return said
    beyond = _stands(control, -1, faster)
    matched = [arm for arm in faster if arm not in beyond]
    if matched and control_faster:
        said.append(
            f"The faster early loss of {_names(matched)} over the {span} is matched or exceeded by the control, a "
            "plain network whose BN gammas start at √3: initial scale alone has as large an effect, without any block, "
            "so the faster beginning is no evidence for the blocks."
        )
    elif matched:
        said.append(
            f"{_names(matched)} have a lower loss than plain over the {span}, but not significantly lower than the "
            "control with gammas at √3: this data does not tell the block from its initial scale."
        )
    if beyond:
        said.append(
            f"The early loss of {_names(beyond)} over the {span} is lower than plain's and than the control's: an "
            "initial scale of √3 does not explain it, though another scale or learning rate might."
        )
    return said


def sameness(results: Results) -> list[str]:
    """About wide against folded, and PyTorch against ONNX Runtime."""
    total = len(results.runs) * results.test_images
    changed = results.changed_predictions
    failed = [c for c in results.certificates + results.starts if not c["equal"]]
    said = []
    if failed:
        said.append(f"Certificates that do not hold: {len(failed)}. The figures of those runs are not to be trusted.")
    if changed:
        said.append(
            f"{changed} of {total} test predictions differ between a wide network and its folded form. A difference "
            "within the certificates' bounds can only turn images whose two best classes are tied to rounding."
        )
    if results.onnx_differing:
        said.append(f"{results.onnx_differing} predictions of ONNX Runtime differ from PyTorch's.")
    return said


def speed(results: Results) -> list[str]:
    """About the latency of the folded networks."""
    noise = results.control_latency
    folded = {arm: results.networks[arm].folded_latency.ratio for arm in results.others}
    plain = results.networks[PLAIN].folded
    changed = [arm for arm in results.others if results.networks[arm].folded != plain]
    if changed:
        return [f"{_names(changed)}: folded to another number of MACs or parameters than plain, so to another latency."]
    outside = [arm for arm, ratio in folded.items() if not noise.low <= ratio <= noise.high]
    low, high = min(folded.values()), max(folded.values())
    against = f"(plain timed against itself: {noise.ratio:.2f}, middle half {noise.low:.2f} to {noise.high:.2f})"
    if not outside:
        return [
            f"The folded networks take {low:.2f} to {high:.2f} of plain's time, within the spread of the control "
            f"{against}: no difference in speed is shown, and none is expected of the same operators."
        ]
    return [
        f"{_names(outside)}: the folded network's time lies outside the control's middle half {against}. It runs the "
        "same operators on tensors of the same shapes, so this is the machine's noise or its memory layout rather "
        "than the block."
    ]


def limits(results: Results) -> list[str]:
    """Everything the data does not show, the measured part first."""
    recipe = results.settings.recipe
    return [
        *sameness(results),
        *accuracy(results),
        *beginning(results),
        *speed(results),
        f"All arms share one learning rate ({recipe.learning_rate:g}) and one recipe, chosen beforehand so that "
        "all of them learn in a short time, and tuned for none. A block changes how far a step moves the folded "
        "kernel, so a rate tuned for each arm could order them differently.",
        "Eight by eight grey digits and three convolutions are far from the networks these blocks were made for; "
        "what happens here says little about deeper networks or larger images.",
    ]
