"""docs/super-resolution.md: its table is that of results/sr.json."""

from support.scripts import script


def test_the_table_is_what_would_be_written_now() -> None:
    generator = script("make_sr")
    page = generator.PAGE.read_text()
    assert generator.BEGIN in page
    assert generator.END in page
    assert generator.updated(page) == page, "run python docs/make_sr.py"


def test_what_is_resolved_is_bold_and_wins_are_counted() -> None:
    generator = script("make_sr")
    pair = {"mean": -0.25, "low": -0.3, "high": 0.01, "adjusted": 0.2}
    one = {"psnr": pair, "differences": [0.5, -0.1, 0.0]}
    assert generator._cell(one) == "−0.250 (−0.300 to +0.010), 1/3"
    assert generator._cell({**one, "psnr": {**pair, "adjusted": 0.01}}) == "**−0.250 (−0.300 to +0.010)**, 1/3"
