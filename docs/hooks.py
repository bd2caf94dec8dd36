"""Hooks of mkdocs: pages link to files outside of docs/ as a repository shows them; the site carries copies."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# A Markdown link or picture with a relative target that leaves the page's folder upwards.
LINK = re.compile(r"(\]\()((?:\.\./)+[^)\s#]+)(#[^)\s]*)?(\))")
# The mark of a list item at the margin, with what its text is indented by.
ITEM = re.compile(r"(?:[*+-]|\d+\.) +(?=\S)")
_COPIED = "files"


def _outside(page: str, target: str) -> str | None:
    """The path in the repository that a link leaves docs/ for, None where it stays inside."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith(("docs/", "..")) else path


def _links(page: str, text: str) -> list[str]:
    return [path for match in LINK.finditer(text) if (path := _outside(page, match[2])) is not None]


def on_files(files: Files, *, config: Any) -> Files:
    """Add what pages link to outside of docs/, under files/ and by its path; the README is the home page."""
    wanted = {
        path
        for file in files.documentation_pages()
        for path in _links(file.src_uri, file.content_string)
        if path != "README.md" and (ROOT / path).is_file()
    }
    for path in sorted(wanted):
        files.append(File.generated(config, f"{_COPIED}/{path}", abs_src_path=str(ROOT / path)))
    return files


def _indented(markdown: str) -> str:
    """Lists as Python-Markdown wants them: what belongs to an item is indented by four, not by the item's own mark.

    And behind an item of several paragraphs the next one stands off by a line.
    """
    lines, inside, fenced, parted = [], 0, False, False
    for line in markdown.splitlines():
        margin = len(line) - len(line.lstrip())
        item = None if fenced else ITEM.match(line)
        if line.startswith("```") and not inside:
            fenced = not fenced
        if item:
            lines += [""] if parted and lines[-1] else []
            inside, parted = len(item[0]), False
        elif line and margin < inside:
            inside, parted = 0, False
        parted = parted or bool(inside and not line)
        lines.append(" " * (4 - inside) + line if line and inside and not item else line)
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Point these links to the copies. One that leads nowhere is left as it is, for mkdocs to complain about."""
    home = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        path = _outside(home, match[2])
        if path is None:
            return match[0]
        target = "index.md" if path == "README.md" else f"{_COPIED}/{path}"
        if files.get_file_from_path(target) is None:
            return match[0]
        relative = posixpath.relpath(target, posixpath.dirname(home) or ".")
        return f"{match[1]}{relative}{match[3] or ''}{match[4]}"

    return _indented(LINK.sub(moved, markdown))


def on_page_content(html: str, *, page: Any, config: Any, files: Files) -> str:
    """A page that stands alone in its tab needs no list of pages beside it."""
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    return html


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Say the language of the Chinese pages, by which browsers choose the forms of characters."""
    return (
        output.replace('<html lang="en"', '<html lang="zh-Hans"', 1) if page.file.src_uri.startswith("zh/") else output
    )
