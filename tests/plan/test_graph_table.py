"""A plan and its explanation as text: narrow, and alike regions in one row."""

from torch import nn

import convfold
from convfold import blocks
from convfold.graph.maps import IDENTITY, Map
from convfold.graph.program import Linear, ShiftGiven, Term
from convfold.plan.explain import describe_node
from convfold.plan.table import table
from transform.models import noise, seeded


def stage(name: str) -> nn.Module:
    steps: list[nn.Module] = []
    for _ in range(3):
        steps += [blocks.build(name, 2, 8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*steps)


def test_lines_are_narrow_and_alike_regions_share_a_row() -> None:
    plain = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(4)]
    model = seeded(nn.ModuleDict({"stem": nn.Sequential(*plain), "a_long_name_for_a_stage": stage("dbb")}))
    whole = nn.Sequential(model["stem"], model["a_long_name_for_a_stage"])
    plan = convfold.plan(whole, noise(2, 8, 9, 9))
    text = str(plan)
    assert max(map(len, text.splitlines())) <= 120
    head, _, first, second = text.splitlines()[:4]
    assert head.split() == ["module", "type", "becomes", "MACs", "operators"]
    assert "0.0.0 + 0.0.1, and 3 alike" in first
    assert "Conv2d, BatchNorm2d" in first
    assert "Conv2d(8, 8, 3x3, padding=1x1)" in first
    assert first.split()[-6:] == ["93,312", "->", "93,312", "2", "->", "1"]
    assert "1.0, and 2 alike" in second
    assert max(map(len, str(plan.explain()).splitlines())) <= 140


def test_long_cells_go_on_in_the_next_line() -> None:
    text = table(("a", "b"), [("one two three four", "x")], (10, 4))
    assert text.splitlines() == ["a        b", "----------", "one two  x", "  three", "  four"]


def test_a_sum_is_called_one() -> None:
    same, scaled = Term(IDENTITY, 0), Term(Map("diagonal", 4, 4, 1), 1)
    assert describe_node(Linear((same, same))) == "sum of 2"
    assert describe_node(Linear((same, same, same), ShiftGiven("b"), 1)) == "sum of 3 + bias"
    assert describe_node(Linear((same,))) == "identity"
    assert describe_node(Linear((same, scaled))) == "identity + scale per channel"
