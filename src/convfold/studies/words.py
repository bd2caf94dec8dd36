"""Figures as people write them in a report."""

from __future__ import annotations

__all__ = ["p_text", "signed"]


def p_text(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def signed(value: float) -> str:
    """A difference with its sign, a true minus where it is negative."""
    return f"{value:+.2f}".replace("-", "−")
