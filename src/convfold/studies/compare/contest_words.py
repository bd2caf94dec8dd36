"""Words that every comparison's sentences and tables are made of."""

from __future__ import annotations

from collections.abc import Sequence

from convfold.studies.statistics import Paired
from convfold.studies.words import p_text, signed

__all__ = ["capital", "interval_text", "joined", "p_words", "reach"]


def joined(parts: Sequence[str]) -> str:
    """Words with commas, and "and" before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def p_words(value: float | None) -> str:
    """ "p = 0.012" or "p < 0.001"."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def capital(text: str) -> str:
    """The same with a capital letter."""
    return text[:1].upper() + text[1:]


def interval_text(low: float | None, high: float | None) -> str:
    """Both ends with their signs, or a dash where there is no interval."""
    return "–" if low is None or high is None else f"{signed(low)} to {signed(high)}"


def reach(pair: Paired) -> float:
    """The largest difference, either way, that the 95% interval does not exclude."""
    return max(abs(end) for end in (pair.mean, pair.low, pair.high) if end is not None)
