"""Hypothesis profiles, one thread, and the shared helpers of `tests/support` on the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from support.browser import browser

__all__ = ["browser"]  # a fixture of all tests

# Shared machines stall: a deadline per example would fail for reasons that are not the code's.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}
settings.register_profile("fast", max_examples=60, derandomize=True, **_COMMON)
settings.register_profile(
    "deep", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "3000")), print_blob=True, **_COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

torch.set_num_threads(1)
