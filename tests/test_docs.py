"""The pages of docs/blocks: one per block, as the generator writes them now, and every published system named."""

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from convfold import blocks
from support.scripts import script

DOCS = Path(__file__).parents[1] / "docs"
# What is published as a structural re-parameterisation, and under which of our names one finds it.
SYSTEMS: dict[str, list[str]] = {
    "DO-Conv: a depthwise kernel composed with a convolution's (dense, grouped, depthwise)": ["doconv"],
    "ExpandNets: linear chains around and in place of a kernel, fully connected ones too": ["expandnet"],
    "ACNet: a square kernel with a flat one along each axis": ["acnet"],
    "RepVGG: 3x3, 1x1 and the identity": ["repvgg"],
    "Diverse Branch Block: four branches of different complexity": ["dbb"],
    "RepMLP: convolutions taken into a fully connected layer over partitions": ["repmlp"],
    "PSConv: dilations that cycle over pairs of channel blocks": ["psconv"],
    "MixConv and the expand unit of SqueezeNet's Fire: branches that are concatenated": ["fire", "mixconv"],
    "Compositions: any block as the convolution inside another": ["acnet", "dbb", "expandnet", "psconv"],
    "Linear chains of fully connected layers": ["expandnet"],
    "MobileOne, OREPA, ECB, large kernels with dilated ones beside them, QARepVGG": [
        "dilated", "ecb", "mobileone", "orepa", "qarepvgg",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("make_blocks")


def test_every_published_system_has_its_block() -> None:
    named = {name for row in SYSTEMS.values() for name in row}
    assert named == set(blocks.names())
    assert len(SYSTEMS) == 11


def test_there_is_a_page_and_two_pictures_for_every_block_and_nothing_else() -> None:
    kinds = (".md", "-train.svg", "-deploy.svg")
    expected = {f"{name}{kind}" for name in blocks.names() for kind in kinds}
    assert {path.name for path in (DOCS / "blocks").iterdir()} == expected
    assert set(tomllib.loads((DOCS / "blocks.toml").read_text())) == set(blocks.names())


def test_every_page_is_what_would_be_written_now(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocks.toml").write_bytes((DOCS / "blocks.toml").read_bytes())
    monkeypatch.setattr(generator, "HERE", tmp_path)
    generator.main()
    written = {path.name: path.read_text() for path in (tmp_path / "blocks").iterdir()}
    present = {path.name: path.read_text() for path in (DOCS / "blocks").iterdir()}
    assert set(written) == set(present)
    stale = [name for name in sorted(written) if written[name] != present[name]]
    assert not stale, f"run python docs/make_blocks.py: {', '.join(stale)} would change"


@pytest.mark.parametrize("name", blocks.names())
def test_a_page_holds_what_a_page_must(name: str) -> None:
    page = (DOCS / "blocks" / f"{name}.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert headings == [
        name,
        "Shapes and initialisation",
        "Cost",
        "When to use it",
        "What is known not to help",
        "Paper",
    ]
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert pictures == [f"{name}-train.svg", f"{name}-deploy.svg"]
    assert re.search(r"^    \S.*\(x\)", page, re.MULTILINE), "the equation"
    rows = dict(re.findall(r"^\| ([a-z-]+) \| ([\d,]+) \| [\d,]+ \|$", page, re.MULTILINE))
    assert list(rows) == ["multiply-accumulates", "convolutions", "operators", "parameters"]
    assert re.search(r"https://(arxiv|doi)\.org/", page), "the paper"
    # The call on the page builds the block.
    call = re.search(r"`(convfold\.blocks\.build\(.*\))` on an input of", page)
    assert call is not None
    built = eval(call.group(1), {"convfold": __import__("convfold")})
    assert type(built) is blocks.find(name, built.dims)
