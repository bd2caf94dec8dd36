"""``convfold cost conv``: the worked examples, one to three axes, and what is wrong."""

import json
from pathlib import Path

import pytest

from convfold.cli import run
from convfold.cli.cost_conv import layer_of
from convfold.geometry import Axis


def told(capfd: pytest.CaptureFixture[str], line: str, code: int = 0) -> str:
    assert run(["cost", "conv", *line.split()]) == code
    captured = capfd.readouterr()
    return captured.err if code else captured.out


def rows(capfd: pytest.CaptureFixture[str], line: str, tmp_path: Path) -> dict[str, dict]:
    file = tmp_path / "table.json"
    told(capfd, f"{line} --json {file}")
    return {row["form"]: row for row in json.loads(file.read_text())["rows"]}


def test_the_example_of_11_by_11(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = told(capfd, "--input 11x11x3 --kernel 3 --stride 2 --padding 1 --out 16")
    assert text.startswith("11x11x3 -> 6x6x16, kernel 3x3, stride 2x2, padding 1x1")
    for part in (
        "15,552", "separable: 1/N + 1/K = 1/16 + 1/9 = 0.1736", "depthwise 972 + pointwise 1,728 = 2,700 MACs",
        "grouped:3: groups must divide in_channels and out_channels: got groups=3 with 3 -> 16", "15 or 18",
    ):  # fmt: skip
        assert part in " ".join(text.split())
    found = rows(capfd, "--input 11x11x3 --kernel 3 --stride 2 --padding 1 --out 16", tmp_path)
    assert (found["convolution"]["macs"], found["separable"]["macs"], found["depthwise"]["macs"]) == (15552, 2700, 972)


def test_the_example_of_64_by_64_with_its_blank_cells_filled(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = "--input 64x64x3 --kernel 5 --out 32"
    text = " ".join(told(capfd, line).split())
    for part in ("9,830,400 2,400", "1,610,612,736 1,610,612,736", "With 3 -> 32", "30 or 33"):
        assert part.removeprefix("With ") in text
    found = rows(capfd, line, tmp_path)
    cells = {form: (row["macs"], row["weights"]) for form, row in found.items()}
    assert cells["convolution"] == (9_830_400, 2_400)
    assert cells["fully-connected"] == (64 * 64 * 3 * 64 * 64 * 32,) * 2
    assert cells["separable"] == (64 * 64 * 3 * (25 + 32), 3 * (25 + 32))
    assert cells["grouped:3, 30 out"] == (64 * 64 * 25 * 30, 25 * 30)
    assert cells["grouped:3, 33 out"] == (64 * 64 * 25 * 33, 25 * 33)
    assert "grouped:3" not in cells
    assert found["convolution"]["output"] == [32, 64, 64]


@pytest.mark.parametrize(("line", "size"), [("100x4", 1), ("20x10x4", 2), ("8x9x10x4", 3)])
def test_one_to_three_axes_with_every_form(
    line: str, size: int, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = rows(capfd, f"--input {line} --kernel 3 --out 8 --dilation 2 --batch 2", tmp_path)
    assert all(len(row["receptive_field"]) == size for row in found.values())
    assert found["convolution"]["receptive_field"] == [5] * size
    assert {"grouped:2", "grouped:4", "shuffle:2", "self-attention", "restricted-attention", "gated"} <= set(found)
    assert ("spatial" in found) is (size > 1)


def test_groups_multipliers_and_forms_that_are_named(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = rows(capfd, "--input 9x9x8 --kernel 3 --out 8 --groups 2 --multiplier 3 --multiplier 1", tmp_path)
    assert [form for form in found if form.startswith("grouped")] == ["grouped:2"]
    assert {"separable", "separable:3", "depthwise:3"} <= set(found)
    alone = rows(capfd, "--input 9x9x8 --kernel 3 --out 8 --form tucker:2,3 --form svd:4", tmp_path)
    assert list(alone) == ["tucker:2,3", "rank:4"]
    half = rows(capfd, "--input 9x9x8 --kernel 3 --out 8 --form rank:4 --dtype float16", tmp_path)
    assert 2 * half["rank:4"]["traffic_bytes"] == alone["rank:4"]["traffic_bytes"]


def test_padding() -> None:
    assert layer_of("9x9x3", "3x5", 4, "1", "", "1").out_size == (9, 9)
    assert layer_of("9x9x3", "4", 4, "1", "same", "1").window[0] == Axis(4, 1, 1, 1, 2)
    assert layer_of("9x9x3", "3", 4, "2", "", "1").out_size == (5, 5)
    assert layer_of("9x9x3", "3", 4, "1", "valid", "1").out_size == (7, 7)
    assert layer_of("9x9x3", "3", 4, "1", "0x2", "1").out_size == (7, 11)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--input 64 --kernel 3 --out 4", "--input: a convolution has one to three axes: got '64'"),
        ("--input 4x4x4x4x3 --kernel 3 --out 4", "--input: a convolution has one to three axes"),
        ("--input 4y4 --kernel 3 --out 4", "--input: these are no sizes: got '4y4'"),
        ("--input 9x9x3 --kernel 3x3x3 --out 4", "--kernel: there is not one number for each axis: got '3x3x3'"),
        ("--input 9x9x3 --kernel 11 --padding valid --out 4", "--kernel: the kernel does not fit: got 11 on 9x9x3"),
        ("--input 9x9x3 --kernel 3 --stride 2 --padding same --out 4", "padding='same' has no meaning with a stride"),
        ("--input 9x9x3 --kernel 3 --out 4 --form seperable", "--form: unknown form: got 'seperable'"),
        ("--input 9x9x3 --kernel 3 --out 4 --form rank", "--form: the numbers of the form are wrong: got 'rank'"),
        ("--input 9x9x3 --kernel 3 --out 4 --form rank:2 --groups 2", "--form names its own numbers"),
        ("--input 9x9x3 --kernel 3 --out 4 --dtype int4", "--dtype: numbers of this type are not known: got 'int4'"),
        ("--input 9x9x3 --kernel 3", "Missing option '--out'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(line: str, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert sentence in told(capfd, line, code=2)


def test_forms_that_cannot_be_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, "--input 9x9x8 --kernel 3 --out 16 --form rank:99 --form grouped:3")
    assert "rank:99: the rank is above full: got 99, expected at most 16." in text
    assert "The nearest legal values are 2 and 4." in " ".join(text.split())


def test_transposed_that_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, "--input 1x1x2 --kernel 3 --padding 2 --out 2 --form transposed")
    assert "the transposed convolution writes nothing" in text


def test_both_commands_have_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--help"]) == 0
    assert "convfold cost conv" in capfd.readouterr().out
    assert run(["cost", "conv", "--help"]) == 0
    out = capfd.readouterr().out
    assert "Usage: convfold cost conv" in out
    assert "--multiplier" in out
