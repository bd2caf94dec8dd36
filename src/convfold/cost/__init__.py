"""What one pass executes, holds and moves: counted without running it where possible, and by module."""

from convfold.cost.count import cost, counted
from convfold.cost.report import CostReport, Row, Totals

__all__ = ["CostReport", "Row", "Totals", "cost", "counted"]
