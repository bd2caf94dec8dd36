"""Run docs/tour.md and write what each piece printed below it, there and in the Chinese tour.

python docs/make_tour.py
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from convfold.files import write_text

HERE = Path(__file__).parent
PAGES = (HERE / "tour.md", HERE / "zh" / "tour.md")
# A piece of Python, and what it printed where it printed something.
PIECE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def pieces(page: str) -> list[tuple[str, str]]:
    """Each piece of Python on the page with the output below it, empty where there is none."""
    return [(code, printed or "") for code, printed in PIECE.findall(page)]


def outputs(codes: list[str]) -> list[str]:
    """What each piece prints, run one after the other in a folder of their own."""
    names: dict[str, object] = {"__name__": "tour"}
    found = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for code in codes:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, "tour.md", "exec"), names)
            found.append("\n".join(line.rstrip() for line in printed.getvalue().splitlines()))
    return [f"{text}\n" if text else "" for text in found]


def updated(page: str, printed: list[str]) -> str:
    """The page with these outputs."""
    left = iter(printed)

    def written(match: re.Match[str]) -> str:
        text = next(left)
        return f"```python\n{match[1]}```\n" + (f"\n```text\n{text}```\n" if text else "")

    return PIECE.sub(written, page)


def main() -> None:
    """Both pages, from one run."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    printed = outputs([code for code, _ in pieces(PAGES[0].read_text())])
    for path in PAGES:
        if path.is_file():
            write_text(path, updated(path.read_text(), printed))


if __name__ == "__main__":
    main()
