"""docs/depth.md: its outcome is that of results/compare-depth.json."""

from support.scripts import script


def test_the_outcome_is_what_would_be_written_now() -> None:
    generator = script("make_depth")
    page = generator.PAGE.read_text()
    assert generator.BEGIN in page
    assert generator.END in page
    assert generator.updated(page) == page, "run python docs/make_depth.py"


def test_every_sentence_of_the_study_is_there() -> None:
    generator = script("make_depth")
    said = {"headline": ["All told."], "best": ["Fewer.", "More."], "theory": ["Within 1%."]}
    found = {"said": said, "seeds": 20, "command": "convfold compare depth", "comparisons": [{}, {}]}
    text = generator.outcome(found)
    assert text.startswith("All told.\n\nSteps until done")
    assert "* Fewer.\n* More.\n\nThe prediction" in text
    assert text.endswith("20 seeds, `convfold compare depth`; Holm's correction over 2 comparisons.")
