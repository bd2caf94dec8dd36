"""Two counts beside one another: which rows are matched, and what is said of those that are not."""

import json

import torch
from torch import nn

from convfold.cost import cost
from convfold.cost.compare import compare, comparison_table
from cost_surface.nets import net, plain

X = torch.empty(1, 3, 17, 15)


def test_a_model_is_the_same_as_itself() -> None:
    report = cost(net(), X)
    found = compare(report, report)
    assert found.changed == ()
    assert all(ratio == 1 for _, _, ratio in found.totals().values())
    assert str(found).endswith(f"{len(report.rows)} of {len(report.rows)} rows are the same.")


def test_rows_are_matched_by_path_and_the_rest_is_gone() -> None:
    found = compare(cost(net(), X), cost(plain(), X), ("net", "plain"))
    said = {pair.path: pair.status for pair in found.changed}
    assert said == {"2": "gone", "2.side": "gone", "3": "gone", "3.side": "gone"}
    for name, (one, two, ratio) in found.totals().items():
        assert (one, two) == (getattr(found.a, name), getattr(found.b, name))
        assert ratio == two / one
    text = str(found)
    assert "0 changed, 4 gone, 0 new" in text
    assert f"{found.b.macs:,}" in text
    json.dumps(found.to_dict())


def test_the_other_way_round_they_are_new_and_stand_where_they_run() -> None:
    found = compare(cost(plain(), X), cost(net(), X))
    assert [pair.path for pair in found.pairs] == [row.path for row in cost(net(), X).rows]
    assert {pair.path for pair in found.pairs if pair.status == "new"} == {"2", "2.side", "3", "3.side"}


def test_a_module_that_took_the_place_of_the_one_around_it() -> None:
    before = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU())
    after = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    found = compare(cost(before, X), cost(after, X))
    assert [(pair.path, pair.status) for pair in found.pairs] == [
        ("0.0 -> 0", "same"), ("0.1", "gone"), ("1", "same"),
    ]  # fmt: skip


class Two(nn.Module):
    def __init__(self, main: nn.Module, side: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.side = main, side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) if self.side is None else self.side(x) + self.main(x)


def test_what_lay_inside_is_nearer_than_what_ran_before() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    before = Two(nn.Sequential(conv, nn.BatchNorm2d(4)), nn.Conv2d(3, 4, 1))
    found = compare(cost(before, X), cost(Two(conv), X))
    assert [pair.path for pair in found.pairs if pair.status == "same"] == ["main.0 -> main"]
    assert [pair.path for pair in found.pairs if pair.status == "gone"] == ["side", "main.1", "(the model)"]


def test_renamed_modules_are_matched_by_type_between_their_neighbours() -> None:
    one = nn.Sequential()
    two = nn.Sequential()
    for index in range(3):
        one.add_module(f"a{index}", nn.Conv2d(3, 3, 3))
        two.add_module(f"b{index}", nn.Conv2d(3, 3, 3))
    two.add_module("last", nn.ReLU())
    found = compare(cost(one, X), cost(two, X))
    assert [pair.path for pair in found.pairs] == ["a0 -> b0", "a1 -> b1", "a2 -> b2", "last"]
    assert [pair.status for pair in found.pairs] == ["same", "same", "same", "new"]


def test_a_changed_type_and_a_glob() -> None:
    one, two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU())
    found = compare(cost(one, X), cost(two, X))
    assert [(pair.type, pair.status) for pair in found.changed] == [("ReLU -> GELU", "changed")]
    assert "ReLU -> GELU" in comparison_table(found, glob="1")
    assert "ReLU -> GELU" not in comparison_table(found, glob="0")


def test_long_paths_are_cut_to_the_width() -> None:
    def deep(last: nn.Module) -> nn.Module:
        model: nn.Module = nn.Sequential(nn.Conv2d(3, 3, 1), last)
        for name in ("a_rather_long_name", "another_rather_long_name", "and_a_third_one_of_them"):
            outer = nn.Sequential()
            outer.add_module(name, model)
            model = outer
        return model

    found = compare(cost(deep(nn.ReLU()), X), cost(deep(nn.Conv2d(3, 3, 3)), X))
    text = comparison_table(found, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" in text
