"""The page of the layers is what its generator writes now, and its examples run."""

import re
from pathlib import Path

import pytest
import torch

import convfold
from convfold import layers
from support.scripts import script

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "layers.md").read_text()


def test_the_page_is_what_would_be_written_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = script("make_layers")
    (tmp_path / "layers.toml").write_bytes((DOCS / "layers.toml").read_bytes())
    monkeypatch.setattr(generator, "HERE", tmp_path)
    generator.main()
    assert (tmp_path / "layers.md").read_text() == PAGE, "run python docs/make_layers.py"


@pytest.mark.parametrize("name", layers.names())
def test_a_section_holds_what_it_must(name: str) -> None:
    (section,) = (s for s in re.split(r"^## ", PAGE, flags=re.MULTILINE) if f'layers.build("{name}", dims' in s)
    assert re.search(r"^`(y|z) = |^`y\[o", section, re.MULTILINE), "the equation"
    assert "Cost per sample" in section
    assert re.search(r"https://arxiv\.org/|arXiv \d", section), "the paper"
    found = re.search(r"`(convfold\.layers\..*\))` on 1x64x28x28", section)
    assert found is not None
    layer = eval(found.group(1), {"convfold": convfold})
    assert type(layer) is layers.find(name, 2)
    row = re.search(r"^\| as it runs \| ([\d,]+) \| ([\d,]+) \|", section, re.MULTILINE)
    assert row is not None
    assert int(row.group(1).replace(",", "")) == convfold.cost(layer, torch.empty(1, 64, 28, 28)).macs
    assert ("| folded |" in section) == hasattr(layer, "fold")


def test_the_first_example_runs() -> None:
    code = re.search(r"\n\n((?:    .*\n|\n)+?)\nAll but", PAGE)
    assert code is not None
    names: dict[str, object] = {}
    exec(re.sub(r"^    ", "", code.group(1), flags=re.MULTILINE), names)
    assert type(names["plain"]) is torch.nn.Conv2d
