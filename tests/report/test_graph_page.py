"""The page of a fold: all that was said is on it, nothing of it is markup, and it holds with little to say."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("jinja2")

from convfold.errors import FileProblem, InvalidArgument
from convfold.report.graph_page import graph_page, quantity, write_graph_page
from convfold.report.graph_svg import shortened

from .graph_examples import explanation, single

NASTY = '</script><script>alert("1")</script><img src=x onerror=alert(1)>&amp;\u2028{{ 7 * 7 }}'
SVG = "{http://www.w3.org/2000/svg}"


class Reader(HTMLParser):
    """Tags with their attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)
        self.text += data

    def data(self) -> Any:
        return json.loads(self.scripts[0])


def pictures(page: str) -> list[ElementTree.Element]:
    """The page's graphs and maps, read as XML."""
    found = re.findall(r'<svg class="(?:graph|map)".*?</svg>', page, re.DOTALL)
    return [ElementTree.fromstring(f'<r xmlns="http://www.w3.org/2000/svg">{svg}</r>')[0] for svg in found]


def test_every_operator_is_drawn_with_its_text_module_and_region() -> None:
    told = explanation(2)
    before, small, after, _ = pictures(graph_page(told))
    for drawn, side in ((before, "before"), (after, "after")):
        nodes = {node.get("data-id"): node for node in drawn.iter(f"{SVG}g")}
        graph = told["graphs"][side]
        assert set(nodes) == {str(node["id"]) for node in graph["nodes"]}
        for node in graph["nodes"]:
            shown = nodes[str(node["id"])]
            assert shown.get("data-region") == (None if node["region"] is None else str(node["region"]))
            title = shown[0].text or ""
            assert title.startswith(f"{node['text']}, {node['module']}")
            assert ("region" in (shown.get("class") or "")) == (node["region"] is not None)
        edges = [(p.get("data-from"), p.get("data-to")) for p in drawn.iter(f"{SVG}path") if p.get("class") == "edge"]
        assert sorted(edges) == sorted({(str(a), str(b)) for a, b in graph["edges"]})
    assert len([rect for rect in small if rect.get("data-id")]) == len(told["graphs"]["before"]["nodes"])


def test_outcomes_differ_by_more_than_colour() -> None:
    page = graph_page(explanation(3))
    css = page[page.index("<style>") : page.index("</style>")]
    for outcome in ("partly", "reorder", "sink", "back"):
        assert f"region o-{outcome}" not in css
        assert re.search(rf"\.region\.o-{outcome} \.box[^}}]*stroke-dasharray", css)
        assert f"o-{outcome}" in page.split("</style>")[1]
    before = pictures(page)[0]
    numbers = {node.get("data-region"): node.find(f"{SVG}text") for node in before.iter(f"{SVG}g")}
    assert all(number is not None and number.text == region for region, number in numbers.items() if region)


def test_header_tables_and_refusals_say_what_was_given() -> None:
    told = explanation(3)
    reader = Reader(graph_page(told))
    text = " ".join(reader.text.split())
    for part in (
        "MobileNine",
        "Input float32 [1, 3, 224, 224], planned for the fewest MACs.",
        "5 regions rewritten, 1 rolled back.",
    ):
        assert part in text
    assert "25.82 M → 11.92 M" in text
    assert "107 → 47" in text
    assert "−56.1%" in text
    for row in told["operators"]:
        assert row["module"] in text
        assert row["line"] in text
    rows = [attrs.get("data-kind") for tag, attrs in reader.tags if tag == "tr" and "data-kind" in attrs]
    assert rows.count("left") == sum(row["outcome"] == "left" for row in told["operators"]) == 6
    assert len(rows) == len(told["operators"])
    assert f"{told['refusals'][0]['reason']} 6×" in text
    assert reader.data() == told


def test_nothing_given_is_markup_or_ends_the_script() -> None:
    told = json.loads(json.dumps(explanation(1)).replace("stages.0", json.dumps(NASTY)[1:-1]))
    told |= {"model": NASTY, "inputs": NASTY, "objective": NASTY}
    told["regions"][0] |= {"outcome": NASTY, "result": NASTY, "laws": [NASTY], "error": NASTY}
    told["operators"][0] |= dict.fromkeys(("operator", "line", "outcome", "reason", "hint"), NASTY)
    told["refusals"] += [dict.fromkeys(("operator", "place", "reason", "hint"), NASTY)]
    for node in told["graphs"]["before"]["nodes"]:
        node |= dict.fromkeys(("text", "kind", "line", "operator"), NASTY)
    page = graph_page(told)
    reader = Reader(page)
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 2
    assert len(reader.scripts) == 2
    assert "img" not in {tag for tag, _ in reader.tags}
    assert not [name for _, attrs in reader.tags for name in attrs if name.startswith("on")]
    assert reader.data() == told
    assert len(pictures(page)) == 4
    assert NASTY in reader.text


def test_nasty_ids_are_escaped_too() -> None:
    told = single()
    for graph in told["graphs"].values():
        graph["nodes"][0]["id"] = '"><b>'
    reader = Reader(graph_page(told))
    assert "b" not in {tag for tag, _ in reader.tags}
    assert [attrs["data-id"] for tag, attrs in reader.tags if tag == "g"] == ['"><b>'] * 2


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    page = graph_page(explanation(1))
    reader = Reader(page)
    assert not re.search(r"https?://|@import|url\(", page.replace("http://www.w3.org", ""))
    links = [value for _, attrs in reader.tags for name, value in attrs.items() if name in ("src", "href")]
    assert all(link is not None and (link.startswith("#") or link == "data:,") for link in links)
    [policy] = [attrs["content"] for _, attrs in reader.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_ids_are_unique_and_every_button_has_a_type() -> None:
    reader = Reader(graph_page(explanation(2)))
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all("type" in attrs for tag, attrs in reader.tags if tag == "button")


def test_a_plan_that_folds_nothing_says_so() -> None:
    text = " ".join(Reader(graph_page(single())).text.split())
    assert "Nothing folds: no region has a cheaper exact form." in text
    assert "9 → 9" in text
    assert "unchanged" in text
    assert "1 operator" in text
    assert "1 operators" not in text


def test_two_graphs_are_all_that_is_needed() -> None:
    empty: dict[str, Any] = {"nodes": [], "edges": []}
    text = " ".join(Reader(graph_page({"graphs": {"before": empty, "after": empty}})).text.split())
    assert "Nothing folds" in text
    assert "This graph is empty." in text
    bare = {"nodes": [{"id": 1}, {"id": 2}], "edges": [[1, 2]]}
    page = graph_page({"graphs": {"before": bare, "after": bare}, "regions": [{"id": 1}], "operators": [{"id": 1}]})
    assert "operator, no module" in page
    assert graph_page({"graphs": {"before": bare, "after": bare}, "refusals": [{"reason": "r"}]}).count("1×") == 1


def test_what_is_no_number_of_json_is_text() -> None:
    told = explanation(1)
    told["regions"][0]["error"] = math.inf
    told["regions"][1]["error"] = math.nan
    data = Reader(graph_page(told)).data()
    assert [region["error"] for region in data["regions"]] == ["inf", "nan"]


def test_a_bad_graph_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    told = single()
    told["graphs"]["after"]["edges"] = [[0, 9]]
    with pytest.raises(InvalidArgument, match="not in the graph"):
        write_graph_page(tmp_path / "page.html", told)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_graph_page(tmp_path / "page.html", single())
    assert (tmp_path / "page.html").read_text() == graph_page(single())
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileProblem, match="cannot write"):
        write_graph_page(tmp_path / "none" / "page.html", single())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *[(0, "0"), (48, "48"), (9999, "9,999"), (12345, "12.35 k"), (815_600_000, "815.6 M"), (-2e9, "-2.000 G")],
        *[(1_361_900_000, "1.362 G"), (1.5, "1.5"), (None, ""), ("?", "?"), (math.inf, "inf"), (True, "True")],
    ],
)
def test_quantities(number: object, text: str) -> None:
    assert quantity(number) == text


def test_long_text_is_shortened_from_either_end() -> None:
    long = "stages.0.blocks.1.conv_kxk.conv"
    assert shortened("conv", 100) == "conv"
    assert re.fullmatch(r"stages\.0\.b\w*…", shortened(long, 90))
    assert re.fullmatch(r"….*xk\.conv", shortened(long, 90, keep_end=True))
    assert shortened(long, 0) == "…"
