"""The page of costs: what it holds, and in a browser what sorting, filtering, folding and bars do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("jinja2")

from convfold.cost import cost
from convfold.cost.compare import compare
from convfold.cost.what_if.scenario import what_if
from convfold.report.cost_page import cost_page, write_cost_page
from cost_surface.nets import net, odd, plain
from support.browser import PHONE, browser, opener

X = torch.empty(1, 3, 17, 15)
assert browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    report = cost(net(), X)
    scenarios = [what_if(net(), X, form) for form in ("separable", "rank:2@2.*")]
    told = {
        "alone": (report, "net", "1x3x17x15", None, scenarios),
        "diff": (report, "net", "1x3x17x15", compare(report, cost(plain(), X), ("net", "plain"))),
        "odd": (cost(odd(), X), "odd"),
        "nasty": (report, "<img src=x onerror='document.title=1'>", "</script>"),
    }
    for name, args in told.items():
        write_cost_page(folder / f"{name}.html", *args)
    return {name: folder / f"{name}.html" for name in told}


@pytest.fixture
def show(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    yield from opener(browser, pages, 1280)


def test_what_was_not_counted_is_in_a_box_above_everything() -> None:
    page = cost_page(cost(odd(), X), "odd")
    assert page.index('role="alert"') < page.index('class="facts')
    assert "_linalg_svd" in page
    assert 'role="alert"' not in cost_page(cost(net(), X), "net")


def test_of_the_other_model_too() -> None:
    first, second = cost(net(), X), cost(odd(), X)
    page = cost_page(first, "net", "", compare(first, second, ("net", "odd")))
    assert "odd: operators without a formula" in page


def first_cells(browser: Any, table: str, column: int = 0) -> list[str]:
    rows = f"[...document.querySelectorAll('#{table} tbody tr')].filter((row) => !row.hidden)"
    script = f"return {rows}.map((row) => row.cells[{column}].textContent)"
    return browser.execute_script(script)


def click(browser: Any, selector: str) -> None:
    browser.execute_script(f"document.querySelector(`{selector}`).click()")


@pytest.mark.browser
def test_a_title_sorts_and_a_text_filters(show: Any) -> None:
    page = show("alone")
    titles = page.execute_script("return [...document.querySelectorAll('#all thead .sort')].map(b => b.textContent)")
    macs = titles.index("MACs")
    assert {"separable: MACs", "rank:2@2.*: MACs"} <= set(titles)
    in_order = first_cells(page, "all")
    click(page, f"#all thead th:nth-child({macs + 1}) .sort")
    assert first_cells(page, "all")[:2] == ["2.conv", "3.conv"]
    click(page, "#all thead th:nth-child(1) .sort")
    assert first_cells(page, "all") == in_order
    field = page.find_element("id", "sift-rows")
    field.send_keys("2.")
    assert first_cells(page, "all") == ["2.conv", "2.side", "2.act"]
    assert page.find_element("css selector", "#rows .kept").text == f"3 of {len(in_order)} shown"


@pytest.mark.browser
def test_modules_fold_and_bars_follow_the_figure(show: Any) -> None:
    page = show("alone")
    shown = "return [...document.querySelectorAll('.modules tbody tr')].filter(r => !r.hidden).map(r => r.dataset.path)"
    assert "2.conv" in page.execute_script(shown)
    click(page, "#fold")
    assert page.execute_script(shown) == ["", "0", "1", "2", "3", "4", "6"]
    click(page, "tr[data-path='2'] .toggle")
    assert "2.conv" in page.execute_script(shown)
    report = cost(net(), X)
    share = "return document.querySelector(\"tr[data-path='2'] .percent\").textContent"
    assert page.execute_script(share) == f"{100 * report.under('2').macs / report.macs:.1f} %"
    click(page, "[data-bar='1']")
    assert page.execute_script(share) == f"{100 * report.under('2').params / report.params:.1f} %"
    assert page.find_element("id", "shown").text == "Parameters"


@pytest.mark.browser
def test_a_diff_shows_what_differs_first(show: Any) -> None:
    page = show("diff")
    assert first_cells(page, "pairs") == ["2.side", "2", "3.side", "3"]
    click(page, "[data-keep='all']")
    assert len(first_cells(page, "pairs")) == len(cost(net(), X).rows)
    click(page, "[data-keep='same']")
    assert "2" not in first_cells(page, "pairs")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("name", ["alone", "diff", "odd"])
def test_the_page_is_no_wider_than_the_screen(show: Any, name: str, width: int) -> None:
    page = show(name, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_names_are_text(show: Any) -> None:
    page = show("nasty")
    assert page.title == "<img src=x onerror='document.title=1'>: what it costs"
