"""Pages of folds, and a browser that opens them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report.graph_examples import explanation, single
from support.browser import opener
from support.graph_browser import DESK


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("jinja2")
    from convfold.report.graph_page import write_graph_page

    folder = tmp_path_factory.mktemp("pages")
    wanted = {"large": explanation(27), "small": explanation(3), "single": single()}
    assert len(wanted["large"]["graphs"]["before"]["nodes"]) > 900
    wanted["nasty"] = single('<img src=x onerror="document.title=1">', "</script><script>document.title=2</script>")
    ratio = {"median": 3.31, "low": 3.2, "high": 3.4, "rounds": 9}
    times = {"before": 1234.5, "after": 1000.1, "ratio": ratio}
    wanted["timed"] = explanation(3) | {
        "before": {"macs": 1_512_581_120, "convolutions": 45, "operators": 1240, "params": 9_105_640},
        "after": {"macs": 1_361_451_008, "convolutions": 23, "operators": 1046, "params": 8_309_384},
        "latency": [{"runtime": name, **times} for name in ("ONNX Runtime", "OpenVINO")],
    }
    for name, told in wanted.items():
        write_graph_page(folder / f"{name}.html", told)
    return {name: folder / f"{name}.html" for name in wanted}


@pytest.fixture
def show(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    yield from opener(browser, pages, DESK)
