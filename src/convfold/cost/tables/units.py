"""Counts and bytes as a person reads them: three digits and a unit."""

from __future__ import annotations

__all__ = ["human", "human_bytes", "human_seconds", "sizes"]

_UNITS = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def human(number: float) -> str:
    """Three digits and a decimal unit; what has four digits or fewer is written out.

    >>> human(1361451008), human(27), human(9999), human(12345), human(999_999), human(-15552)
    ('1.36 G', '27', '9,999', '12.3 k', '1.00 M', '-15.6 k')
    """
    size = abs(number)
    if size < 10_000:
        return f"{number:,.0f}" if number == int(number) else f"{number:,.3g}"
    for step, unit in _UNITS:
        # What would be rounded to 1000 of this unit is 1.00 of the next.
        if size >= step * 0.9995:
            scaled = number / step
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}"
    raise AssertionError("10,000 and more has a unit")


def human_bytes(number: float) -> str:
    """The same of bytes.

    >>> human_bytes(102_228_128), human_bytes(512)
    ('102 MB', '512 B')
    """
    text = human(number)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def human_seconds(number: float) -> str:
    """Seconds, in the unit that leaves three digits.

    >>> human_seconds(0.0123), human_seconds(47e-6), human_seconds(2.5)
    ('12.3 ms', '47 µs', '2.5 s')
    """
    for scale, unit in ((1.0, "s"), (1e3, "ms")):
        if number * scale >= 0.9995:
            return f"{number * scale:.3g} {unit}"
    return f"{number * 1e6:.3g} µs"


def sizes(shape: tuple[int, ...]) -> str:
    """``1x3x224x224``; "scalar" for no axes."""
    return "x".join(map(str, shape)) or "scalar"
