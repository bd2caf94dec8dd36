"""What the figures of a super-resolution study say and do not say, in sentences chosen by the figures."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.studies.sr.results import Against, Results
from convfold.studies.sr.runs import PLAIN
from convfold.studies.statistics import Paired
from convfold.studies.words import p_text, signed

__all__ = ["between", "gap", "headline", "limits", "verdict", "verdicts"]


def between(pair: Paired) -> str:
    """The interval of a difference."""
    return "–" if pair.low is None or pair.high is None else f"{gap(pair.low)} to {gap(pair.high)}"


def gap(value: float) -> str:
    """A difference in dB with its sign, to three digits where two say nothing."""
    return signed(value) if abs(value) >= 0.1 else f"{value:+.3f}".replace("-", "−")


def verdict(one: Against) -> str:
    """Whether one arm gains over plain, with its interval."""
    rates = f"learning rate {one.rate:g}"
    if one.best:
        rates = f"its own best learning rate {one.rate:g} against plain at {one.plain_rate:g}"
    pair, seeds = one.psnr, len(one.differences)
    if seeds < 2:
        return f"{one.arm}, {rates}: {gap(pair.mean)} dB over plain with one seed, which resolves nothing."
    each = f"{one.wins} of {seeds} seeds above plain"
    facts = f"{gap(pair.mean)} dB over plain, 95% interval {between(pair)}, {each}, p {_p(pair)} (Holm)"
    return f"{one.arm}, {rates}: {_kind(pair)}. {facts}."


def verdicts(results: Results) -> list[str]:
    """Every comparison in a sentence."""
    said = [verdict(one) for one in results.against]
    if results.at_best:
        rates = ", ".join(f"{arm} {results.best[arm]:g}" for arm in results.arms)
        said.append(f"Learning rates chosen on the pictures that decide, by arm: {rates}.")
    return said


def headline(results: Results) -> str:
    """The outcome in a few sentences."""
    seeds = len(results.seeds)
    plain = results.values(PLAIN, results.best[PLAIN])
    gained = sum(plain) / len(plain) - results.floor
    baseline = "bicubic" if results.settings.scale > 1 else "the picture as given"
    apart = f"{gap(abs(gained)).removeprefix('+')} dB {'above' if gained >= 0 else 'below'}"
    opening = f"The plain network is {apart} {baseline} on held-out pictures. "
    if not results.blocks:
        return opening + "No block was asked for beside it."
    if seeds < 2:
        return opening + "With one seed nothing can be said of the blocks."
    blocks = [_summary([one for one in results.at_equal_rates if one.arm == arm]) for arm in results.blocks]
    said = f"{opening}Over plain at equal starting weights and learning rates: {'; '.join(blocks)}."
    if results.at_best:
        said += f" With every arm at its own best rate: {'; '.join(_summary([one]) for one in results.at_best)}."
    return said


def _summary(compared: Sequence[Against]) -> str:
    """One block's differences, each with what it shows."""
    shown = [f"{gap(one.psnr.mean)} dB at {one.rate:g} ({_kind(one.psnr)})" for one in compared]
    return f"{compared[0].arm} {', '.join(shown)}"


def _p(pair: Paired) -> str:
    text = p_text(pair.adjusted)
    return text if text.startswith("<") else f"= {text}"


def _kind(pair: Paired) -> str:
    if not pair.significant:
        return "not resolved"
    return "a gain" if pair.mean > 0 else "a loss"


def limits(results: Results) -> list[str]:
    """What the study cannot show."""
    test = len(results.parts["test"])
    said = [
        f"{test} held-out {'picture' if test == 1 else 'pictures'}: the intervals are over seeds, on these pictures. "
        "They say nothing of other pictures.",
        f"One small network of {results.settings.depth} convolutions and {results.settings.width} channels, "
        f"{results.settings.recipe.steps} steps of Adam. A longer training or a larger network may give another order.",
        "A block changes the length of a step as well as its direction. Beside a learning rate that is too low for "
        "plain, any block that lengthens steps gains; only a comparison with each arm at its own best rate tells these "
        "apart, and only as far as the rates tried here reach.",
        "PSNR and SSIM are of luminance in floating point, without the rounding to 8 bits that a saved picture has.",
    ]
    if results.at_best:
        ends = [arm for arm in results.arms if results.best[arm] in (min(results.rates), max(results.rates))]
        if ends:
            named = ", ".join(ends)
            said.append(f"The best rate of {named} lies at an end of those tried: a better one may lie beyond.")
    else:
        said.append("One learning rate was tried, the same for all; plain may do better at another.")
    return said
