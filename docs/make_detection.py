"""Write the table of docs/detection.md: the detector's cost in each form, counted on meta tensors.

python docs/make_detection.py
"""

from __future__ import annotations

import torch
from marked import ROOT, filled

import convfold
from convfold.files import write_text
from convfold.train.networks import detector

PAGE = ROOT / "docs" / "detection.md"
BEGIN, END = "<!-- costs: written by docs/make_detection.py -->", "<!-- end of costs -->"
HEAD = "| `detector()` at 640x640 | MMACs | convolutions | operators | parameters |\n|---|---:|---:|---:|---:|"


def _row(name: str, model: torch.nn.Module, x: torch.Tensor) -> str:
    cost = convfold.cost(model, x)
    return f"| {name} | {cost.macs / 1e6:,.1f} | {cost.convolutions} | {cost.operators} | {cost.params:,} |"


def before() -> list[str]:
    """The plain network and its wide forms."""
    with torch.device("meta"):
        x, plain = torch.empty(1, 3, 640, 640), detector().eval()
        rows = [_row("plain, with batch normalisations", plain, x)]
        for block in ("repvgg", "acnet", "dbb"):
            wide = convfold.expand(
                plain, block, where=lambda name, layer: not name.startswith("heads.") and layer.kernel_size == (3, 3)
            )
            rows.append(_row(f"`{block}` in backbone and neck", wide.eval(), x))
    return rows


def after() -> str:
    """What each of them folds to."""
    folded = convfold.fold(detector().eval(), torch.zeros(1, 3, 64, 64))
    return _row("**folded, all of them**", folded, torch.empty(1, 3, 640, 640, device="meta"))


def updated(page: str) -> str:
    """The page with today's costs."""
    table = "\n".join((HEAD, *before(), after()))
    return filled(page, BEGIN, END, table)


if __name__ == "__main__":
    write_text(PAGE, updated(PAGE.read_text()))
