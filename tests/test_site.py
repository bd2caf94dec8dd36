"""The documentation site: builds without a warning, links lead somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.scripts import script

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What a browser fetches by itself when it shows a page; an <a> is followed by the reader.
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "use": "href"}


class Page(HTMLParser):
    """The links, the fetched resources, the anchors and the text of list items that were not made lists."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        wanted = FETCHED.get(tag)
        if wanted in given and given.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(given[wanted])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. With --strict a broken link, an unknown anchor or a page that no menu shows is an error."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = (path for path in sorted(site.rglob("*.html")) if path.name != "404.html" and path.parent.name != "reports")
    return {path: Page(path.read_text()) for path in found}


def test_every_page_of_docs_is_built_and_in_the_menu(site: Path, pages: dict[Path, Page]) -> None:
    sources = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert len(sources) > 30
    assert {path.relative_to(site) for path in pages} == sources
    menu = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    missing = [str(path) for path in sources if f" {path.with_suffix('.md').as_posix()}\n" not in menu + "\n"]
    assert not missing, f"mkdocs.yml: nav lacks {', '.join(sorted(missing))}"


def test_no_page_fetches_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.fetched, path
        for target in page.fetched:
            assert not urlsplit(target).netloc, f"{path.name}: {target}"
        assert not re.search(r"fonts\.g|<style[^>]*>[^<]*(url\(|@import)\s*['\"]?(https?:)?//", path.read_text()), path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet
    for picture in site.rglob("*.svg"):
        assert not re.search(r"(href|src)=['\"](https?:)?//", picture.read_text()), picture


def test_reports_of_studies_come_along_and_stand_alone(site: Path, pages: dict[Path, Page]) -> None:
    reports = {path.name: Page(path.read_text()) for path in sorted((site / "reports").glob("*.html"))}
    assert reports.keys() == {path.name for path in (DOCS / "reports").glob("*.html")} != set()
    linked = {Path(urlsplit(target).path).name for page in pages.values() for target in page.links}
    for name, report in reports.items():
        assert name in linked, f"no page leads to {name}"
        assert all(target.startswith("data:") for target in report.fetched), name
        for target in report.links:
            assert urlsplit(target).netloc or unquote(urlsplit(target).fragment) in report.anchors, f"{name}: {target}"


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    followed = 0
    for path, page in pages.items():
        for target in (*page.links, *page.fetched):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target.startswith("data:"):
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            assert aim.is_file(), f"{path.relative_to(site)}: {target}"
            anchor = unquote(parts.fragment)
            if anchor and aim in pages:
                assert anchor in pages[aim].anchors, f"{path.relative_to(site)}: {target}"
            followed += 1
    assert followed > 1000


def test_markdown_came_out_as_what_it_looks_like(site: Path, pages: dict[Path, Page]) -> None:
    # A list, a table or a fence that is written too close to its paragraph stays text, unlike on GitHub.
    for path in pages:
        for text in re.findall(r"<p>(.*?)</p>", path.read_text(), re.DOTALL):
            bare = re.sub(r"<code>.*?</code>", "", text, flags=re.DOTALL)
            assert not re.search(r"\n\s*([*+-]|\d+\.) |\n?\|.*\|\s*\n|```", bare), f"{path.name}: {text[:200]}"


def test_files_outside_of_docs_come_along(site: Path, pages: dict[Path, Page]) -> None:
    copies = {path.relative_to(site / "files").as_posix() for path in (site / "files").rglob("*") if path.is_file()}
    assert "results/zoo.jsonl" in copies
    for name in copies:
        assert (site / "files" / name).read_bytes() == (ROOT / name).read_bytes()
    # Chinese pages say so.
    assert '<html lang="zh-Hans"' in (site / "zh" / "tour.html").read_text()


def test_the_benchmarks_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    module = script("make_benchmarks")
    written = (DOCS / "benchmarks.md").read_text()
    assert "| `timm:repvgg_a0` |" in written
    assert module.page() == written, "run python docs/make_benchmarks.py"
