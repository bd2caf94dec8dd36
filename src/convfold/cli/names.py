"""Names in an option's text."""

from __future__ import annotations

__all__ = ["listed"]


def listed(text: str) -> list[str]:
    """The names in `text`, which has commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]
