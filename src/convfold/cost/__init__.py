"""What one forward pass executes: counted without running it where possible, and by module."""

from convfold.cost.count import cost
from convfold.cost.report import CostReport, Row, Totals

__all__ = ["CostReport", "Row", "Totals", "cost"]
