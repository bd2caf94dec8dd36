"""lower: exact rewriting for hardware that lacks an operator, by targets that are small rule files."""

from convfold.transform.lower.lower import lower
from convfold.transform.lower.report import LoweredLayer, LoweringReport, NotLowered
from convfold.transform.lower.rules import (
    Channels,
    Dilation,
    Grouping,
    MaxKernel,
    Padding,
    Pointwise,
    Rule,
    Square,
    Transposed,
)
from convfold.transform.lower.target import Target, find_target, targets

__all__ = [
    "Channels",
    "Dilation",
    "Grouping",
    "LoweredLayer",
    "LoweringReport",
    "MaxKernel",
    "NotLowered",
    "Padding",
    "Pointwise",
    "Rule",
    "Square",
    "Target",
    "Transposed",
    "find_target",
    "lower",
    "targets",
]
