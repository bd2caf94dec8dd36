"""Recipes: which block for which layer, by rule, in Python or TOML; every wrong one is answered in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convfold import blocks, expand, plan_expansion
from convfold.errors import FileProblem, InvalidArgument, UnknownName
from convfold.transform.recipe import KINDS, Recipe, Rule, kind_of

LAYERS: dict[str, nn.Module] = {
    "stem": nn.Conv2d(3, 8, 3),
    "body.dense": nn.Conv2d(8, 8, (3, 5)),
    "body.grouped": nn.Conv2d(8, 8, 3, groups=2),
    "body.depthwise": nn.Conv2d(8, 16, 3, groups=8),
    "body.point": nn.Conv2d(8, 8, 1, groups=8),
    "sequence": nn.Conv1d(4, 4, 3),
    "head": nn.Linear(8, 2),
}
TOML = """
[[rule]]
block = "expandnet"
name = "stem"
options = { expansion = 2 }

[[rule]]
block = "mobileone"
kind = "depthwise"

[[rule]]
block = "dbb"
kind = "dense"
kernel = [3, 5]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_kinds() -> None:
    kinds = ["dense", "dense", "grouped", "depthwise", "pointwise", "dense", "linear"]
    assert [kind_of(layer) for layer in LAYERS.values()] == kinds
    assert set(kinds) == set(KINDS)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("dbb"), list(LAYERS)),
        (Rule("dbb", kind="dense"), ["stem", "body.dense", "sequence"]),
        (Rule("dbb", kernel=3), ["stem", "body.grouped", "body.depthwise", "sequence"]),
        (Rule("dbb", kernel=(3, 5)), ["body.dense"]),
        (Rule("dbb", kernel=(3,)), ["sequence"]),
        (Rule("dbb", kind="dense", kernel=3), ["stem", "sequence"]),
        (Rule("dbb", name="body.*"), ["body.dense", "body.grouped", "body.depthwise", "body.point"]),
        (Rule("dbb", name="BODY.*"), []),
        (Rule("dbb", kind="linear", name="*d"), ["head"]),
    ],
)
def test_what_a_rule_matches(rule: Rule, expected: list[str]) -> None:
    assert [path for path, layer in LAYERS.items() if rule.matches(path, layer)] == expected


def test_the_first_rule_that_matches_is_used_and_the_rest_stay() -> None:
    stem, dense, every = Rule("expandnet", name="stem"), Rule("dbb", kind="dense"), Rule("acnet", kernel=3)
    chosen = Recipe([stem, dense, every]).assign(LAYERS)
    assert chosen == {
        "stem": stem, "body.dense": dense, "body.grouped": every, "body.depthwise": every, "sequence": dense,
    }  # fmt: skip
    assert list(chosen) == [path for path in LAYERS if path in chosen]
    # The other way round the stem is taken by the more general rule, which is no error.
    assert Recipe([dense, stem]).assign(LAYERS)["stem"] is dense


def test_a_toml_file_gives_the_same_rules(tmp_path: Path) -> None:
    recipe = Recipe.load(written(tmp_path, TOML))
    assert [(r.block, r.kind, r.kernel, r.name, r.options) for r in recipe.rules] == [
        ("expandnet", None, None, "stem", {"expansion": 2}),
        ("mobileone", "depthwise", None, None, {}),
        ("dbb", "dense", (3, 5), None, {}),
    ]
    assert {path: rule.block for path, rule in recipe.assign(LAYERS).items()} == {
        "stem": "expandnet", "body.dense": "dbb", "body.depthwise": "mobileone",
    }  # fmt: skip
    assert Recipe.load(str(written(tmp_path, TOML))).rules[0].options == {"expansion": 2}


def test_a_rule_says_what_it_is() -> None:
    assert str(Rule("dbb")) == "dbb for every layer"
    assert str(Rule("dbb", kind="dense", kernel=3, name="a*")) == "dbb for kind=dense, kernel=3, name=a*"
    assert str(Rule(kind="dense")) == "the block for kind=dense"


def test_a_rule_without_a_block_takes_the_one_beside_the_recipe() -> None:
    recipe = Recipe([Rule(kind="depthwise"), Rule("dbb")])
    assert recipe.blocks("acnet") == ["acnet", "dbb"]
    with pytest.raises(InvalidArgument, match=r"the block for kind=depthwise: rule 1 names no block\. Name one in the"):
        recipe.blocks(None)


def test_wrong_rules() -> None:
    with pytest.raises(UnknownName, match=r"unknown block: got 'dbbb', expected one of .*Did you mean dbb"):
        Rule("dbbb")
    with pytest.raises(
        InvalidArgument, match=r"kind is unknown: got 'wide', expected .*'dense', 'grouped', 'depthwise'"
    ):
        Rule("dbb", kind="wide")
    with pytest.raises(InvalidArgument, match="a recipe has no rule: expected at least one"):
        Recipe([])
    sentence = (
        r"dbb for name=body.conv9: rule 2 matches no layer: expected one like stem, body.dense, body.grouped. Correct"
    )
    with pytest.raises(InvalidArgument, match=sentence):
        Recipe([Rule("acnet"), Rule("dbb", name="body.conv9")]).assign(LAYERS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[[rule]]\nblok = "dbb"',
            r"rule 1 has other keys: got blok, expected any of block, kind, kernel, name, options",
        ),
        ('[[rule]]\nblock = "dbb"\n[[rule]]\nkernels = 3', "rule 2 has other keys: got kernels"),
        ('[[rule]]\nblock = "resnet"', "unknown block: got 'resnet', expected one of"),
        ('[[rule]]\nblock = "dbb"\nkind = "3x3"', "kind is unknown: got '3x3'"),
        ('[rule]\nblock = "dbb"', r"a recipe holds \[\[rule\]\] tables: got rule"),
        ('block = "dbb"', r"a recipe holds \[\[rule\]\] tables: got block"),
        ("", "a recipe has no rule"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        Recipe.load(written(tmp_path, text))


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    binary = tmp_path / "weights.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path, written(tmp_path, "[[rule]"), binary):
        with pytest.raises(FileProblem, match=rf"{path.name}: this is no recipe \(.*\): expected a TOML file"):
            Recipe.load(path)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.dense = nn.Conv2d(8, 4, (3, 5), padding=(1, 2))
        self.point = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.point(torch.relu(self.dense(torch.relu(self.depthwise(torch.relu(self.stem(x)))))))


@pytest.mark.parametrize("given", ["recipe", "path", "text"])
def test_expand_mixes_blocks_by_a_recipe(tmp_path: Path, given: str) -> None:
    path = written(tmp_path, TOML)
    recipe: Any = {"recipe": Recipe.load(path), "path": path, "text": str(path)}[given]
    torch.manual_seed(0)
    model = Net().double().eval()
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    wide = expand(model, recipe, example_inputs=x)
    assert type(wide.stem) is blocks.ExpandNetConv2d
    assert type(wide.depthwise) is blocks.MobileOneConv2d
    assert type(wide.dense) is blocks.DBBConv2d
    assert type(wide.point) is nn.Conv2d
    assert wide.stem.expansion == 2
    assert (wide(x) - model(x)).abs().max() <= 1e-12
    table = str(plan_expansion(model, recipe, example_inputs=x))
    assert [line.split()[0] for line in table.splitlines()[2:]][:3] == ["stem", "depthwise", "dense"]
    assert [name in table for name in ("ExpandNetConv2d", "MobileOneConv2d", "DBBConv2d")] == [True] * 3


def test_expand_names_the_rule_that_matches_nothing() -> None:
    with pytest.raises(InvalidArgument, match=r"dbb for kernel=9: rule 1 matches no layer: expected one like stem"):
        expand(Net(), Recipe([Rule("dbb", kernel=9)]))
