"""Giving the user's own module back with a planned program in it."""

from __future__ import annotations

from convfold.plan.emission.compare import check
from convfold.plan.emission.emit import Emitted, emit

__all__ = ["Emitted", "check", "emit"]
