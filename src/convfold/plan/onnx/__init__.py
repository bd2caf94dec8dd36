"""Plans for ONNX files: what definitions cost there, and how they are written."""

from __future__ import annotations

from convfold.plan.onnx.plan import FilePlan, plan_file, totals_of
from convfold.plan.onnx.pricing import pricing

__all__ = ["FilePlan", "plan_file", "pricing", "totals_of"]
