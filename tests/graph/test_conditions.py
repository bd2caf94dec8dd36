"""Conditions on the sizes of inputs."""

from __future__ import annotations

import torch

from convfold.graph.conditions import Condition


def test_conditions_are_computed() -> None:
    x = torch.zeros(1, 2, 7, 9)
    size = ("size", 0, 2)
    for tree, expected in [
        (("Equality", ("Add", size, 1), 8), True),
        (("And", ("StrictLessThan", size, 8), ("GreaterThan", size, 8)), False),
        (("Or", ("Not", ("Unequality", size, 7)), 0), True),
        (("Equality", ("Mul", ("FloorDiv", size, 2), ("Mod", size, 4)), 9), True),
        (("LessThan", ("CeilToInt", ("IntTrueDiv", size, 2)), ("Max", 4, ("Min", size, 3))), True),
        (("StrictGreaterThan", ("FloorToInt", ("IntTrueDiv", size, 2)), 3), False),
        (("Equality", ("PythonMod", size, 0), 0), False),
        (("Equality", ("CleanDiv", ("size", 0, 9), 1), 0), False),
    ]:
        assert Condition("", tree).holds([x]) is expected
