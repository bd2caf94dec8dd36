"""What the scripts of this folder share: the committed results, and the parts of pages that scripts write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "filled", "results"]

ROOT = Path(__file__).parents[1]


def results(name: str) -> dict[str, Any]:
    """The file of that name in results/."""
    return json.loads((ROOT / "results" / name).read_text())  # type: ignore[no-any-return]


def filled(page: str, begin: str, end: str, text: str) -> str:
    """The page with `text` between its two marks."""
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)
