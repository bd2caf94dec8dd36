"""The rules, one file each; the docstring of a rule is its law."""

from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.rules.channels import Channels
from convfold.transform.lower.rules.dilation import Dilation
from convfold.transform.lower.rules.grouping import Grouping
from convfold.transform.lower.rules.kernel import MaxKernel
from convfold.transform.lower.rules.padding import Padding
from convfold.transform.lower.rules.pointwise import Pointwise
from convfold.transform.lower.rules.square import Square
from convfold.transform.lower.rules.transposed import Transposed

__all__ = [
    "RULES",
    "Channels",
    "Dilation",
    "Grouping",
    "MaxKernel",
    "Padding",
    "Pointwise",
    "Rule",
    "Square",
    "Transposed",
]

RULES: dict[str, type[Rule]] = {
    rule.name: rule for rule in (Pointwise, Grouping, Dilation, Transposed, MaxKernel, Square, Channels, Padding)
}
