"""Pictures side by side: the whole truth, and one part of it as every method gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import avg_pool2d

from convfold.files import atomic_path

__all__ = ["hardest", "sr_picture"]

# The edge of the part that is shown, in pixels of the truth.
EDGE = 72


def hardest(found: Tensor, truth: Tensor, edge: int = EDGE) -> tuple[int, int, int]:
    """Row, column and edge of the square in which `found` (H, W) is furthest from `truth`, by squared error.

    Taken from what needs no network, it favours none of those that are compared.
    """
    edge = min(edge, *truth.shape)
    errors = avg_pool2d((found - truth).square()[None, None], edge, stride=1)[0, 0]
    row, column = divmod(int(errors.argmax()), errors.shape[1])
    return row, column, edge


def sr_picture(
    path: Path, title: str, truth: Tensor, panels: Sequence[tuple[str, Tensor]], part: tuple[int, int, int]
) -> None:
    """Write a PNG: `truth` (H, W) with the `part` outlined, then that part of each panel (caption, picture) and of it.

    Values are 0 to 1; all panels have the size of `truth`. Needs matplotlib.
    """
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    row, column, edge = part
    shown = [*panels, ("truth", truth)]
    columns = -(-len(shown) // 2)
    ratio = truth.shape[1] / truth.shape[0]
    height = 4.9
    with mpl.rc_context({"font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=(height * ratio + height / 2 * columns, height + 0.4), layout="constrained")
        halves: Any = figure.subfigures(1, 2, width_ratios=[height * ratio, height / 2 * columns])
        whole, parts = halves
        axes: Any = whole.subplots()
        _draw(axes, truth, title)
        outline: Any = mpl.patches.Rectangle((column - 0.5, row - 0.5), edge, edge)
        outline.set(fill=False, edgecolor="#e11d48", linewidth=1.6)
        axes.add_patch(outline)
        for axes, panel in zip(parts.subplots(2, columns, squeeze=False).flat, [*shown, None], strict=False):
            axes.set_axis_off()
            if panel is not None:
                _draw(axes, panel[1][row : row + edge, column : column + edge], panel[0])
        with atomic_path(path) as beside:
            figure.savefig(beside, dpi=110)


def _draw(axes: Any, picture: Tensor, caption: str) -> None:
    axes.imshow(picture.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(caption, fontsize=9)
    axes.set_axis_off()
