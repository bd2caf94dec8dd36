"""How alike the channels of a model's layers are: Pearson's correlation between every two, layer by layer.

    r_ij = cov(y_i, y_j) / sqrt(var(y_i) var(y_j)),    over samples and positions of the layer's output y

The study behind DyNet (Zhang et al., 2020, arXiv 2004.10694): channels that correlate repeat one another, and a kernel
that depends on the input is to need fewer of them. |r| is the same before and after a batch normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import twin
from convfold.errors import InvalidArgument
from convfold.graph import example_inputs
from convfold.graph.inputs import does_not_run
from convfold.plan.table import table
from convfold.studies.correlate_layers import channel_axis, feature_layers

__all__ = [
    "BINS",
    "FEW",
    "STRONG",
    "CorrelationReport",
    "LayerCorrelation",
    "Moments",
    "correlate",
    "pearson",
    "summary",
]

BINS = 40
STRONG = 0.5
# Below so many places a sentence says what chance alone gives.
FEW = 100
# Rows that are turned to float64 at once.
_ROWS = 1 << 16
# Of the text; "channels" says how many vary where some do not.
_MEAN = "mean |r|"
_COLUMNS = ("channels", "places", _MEAN, "median", "90 %", f"|r| > {STRONG:g}")
_OF_TWO = (_COLUMNS[0], _MEAN, _COLUMNS[-1])


class Moments:
    """Mean (C,) and scatter (C, C) of rows that come in parts, in float64.

    Parts are joined by Chan, Golub and LeVeque's update, so that a large mean costs no digits of a small variance.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.scatter = torch.zeros(())
        self.eps = 0.0

    def add(self, rows: Tensor) -> None:
        """Rows (n, C)."""
        self.eps = torch.finfo(rows.dtype).eps
        for some in torch.split(rows, _ROWS):
            part = some.to("cpu", torch.float64)
            mean = part.mean(0)
            part = part - mean
            scatter, old, new = part.mT @ part, self.count, len(part)
            if not old:
                self.count, self.mean, self.scatter = new, mean, scatter
                continue
            self.count = old + new
            gap = mean - self.mean
            self.mean = self.mean + gap * (new / self.count)
            self.scatter = self.scatter + scatter + torch.outer(gap, gap) * (old * new / self.count)


def pearson(moments: Moments) -> tuple[Tensor, int]:
    """The correlations (C', C') of the channels that vary, and how many do not.

    A channel does not vary when its deviation is within the rounding of its mean.
    """
    deviation = (moments.scatter.diagonal() / moments.count).sqrt()
    varies = deviation > 4 * moments.eps * moments.mean.abs()
    scatter = moments.scatter[varies][:, varies]
    norm = scatter.diagonal().sqrt()
    return (scatter / torch.outer(norm, norm)).clamp(-1, 1), int((~varies).sum())


@dataclass(frozen=True)
class LayerCorrelation:
    """One layer: its `channels`, those that are `constant`, the rows seen (samples x positions), and |r| over pairs.

    `strong` is the share of pairs with |r| above `STRONG`; `histogram` counts pairs by r in `BINS` equal bins of
    [-1, 1]. Figures are None where fewer than two channels vary.
    """

    layer: str
    type: str
    channels: int
    constant: int
    rows: int
    mean_abs: float | None
    median_abs: float | None
    upper_abs: float | None
    strong: float | None
    histogram: tuple[int, ...]


def summary(path: str, kind: str, moments: Moments) -> LayerCorrelation:
    """What the moments of one layer's outputs say."""
    r, constant = pearson(moments)
    upper = torch.triu_indices(len(r), len(r), 1)
    pairs = r[upper[0], upper[1]]
    channels = int(moments.mean.numel())
    if not len(pairs):
        return LayerCorrelation(path, kind, channels, constant, moments.count, None, None, None, None, (0,) * BINS)
    size, ordered = pairs.abs(), pairs.abs().sort().values
    # By rank: torch's quantile refuses more than 16 million values, the pairs of 5,800 channels.
    middle, high = (float(ordered[min(int(share * len(ordered)), len(ordered) - 1)]) for share in (0.5, 0.9))
    counts = torch.histc(pairs, BINS, -1, 1).to(torch.int64).tolist()
    strong = float((size > STRONG).to(torch.float64).mean())
    return LayerCorrelation(
        path, kind, channels, constant, moments.count, float(size.mean()), middle, high, strong, tuple(counts)
    )


@dataclass(frozen=True)
class CorrelationReport:
    """One row per layer, in the order in which they first ran; `left_out` says why others have none."""

    rows: tuple[LayerCorrelation, ...]
    left_out: dict[str, str]

    @property
    def mean_abs(self) -> float | None:
        """The mean over layers of each layer's mean |r|."""
        values = [row.mean_abs for row in self.rows if row.mean_abs is not None]
        return math.fsum(values) / len(values) if values else None

    @property
    def notice(self) -> str:
        """What chance alone gives, where layers are seen at few places; else empty."""
        fewest = min(row.rows for row in self.rows)
        if fewest >= FEW:
            return ""
        chance = math.sqrt(2 / (math.pi * (fewest - 1)))
        return (
            f"Some layers are seen at only {fewest} places (samples x positions), where |r| of channels that have "
            f"nothing in common is about {chance:.2f} on average: give more samples."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [asdict(row) for row in self.rows]
        told = {"mean_abs": self.mean_abs, "bins": BINS, "strong": STRONG, "notice": self.notice}
        return {**told, "rows": rows, "left_out": self.left_out}

    def __str__(self) -> str:
        return _text([("", self)])

    def against(self, other: CorrelationReport, names: tuple[str, str]) -> str:
        """Both as one table, layers of one name in one row."""
        return _text(list(zip(names, (self, other), strict=True)))


def correlate(model: nn.Module, inputs: object, where: str | None = None) -> CorrelationReport:
    """The correlations between the output channels of the layers that `where`, a glob over module names, chooses.

    Without it those of every convolution, be it plain, dynamic or a block; of Linear layers where there is none.
    Measured on a copy in eval mode, over samples, positions and calls, in float64. Raises InvalidArgument where no
    layer is chosen, the model does not run on the inputs, or each layer is seen at fewer than two places.
    """
    layers = feature_layers(model, where)
    copied = twin(model).eval()
    given = example_inputs(copied, inputs)
    seen: dict[str, Moments] = {}
    left_out: dict[str, str] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            if not isinstance(out, Tensor) or out.dim() < 2 or not out.is_floating_point():
                left_out[path] = "its output is no tensor of real numbers with channels"
                return
            rows = out.detach().movedim(channel_axis(module, out), -1).flatten(0, -2)
            moments = seen.setdefault(path, Moments())
            if moments.count and moments.mean.shape != rows.shape[1:]:
                left_out[path] = "it gives other numbers of channels in one pass"
                return
            moments.add(rows)

        return hook

    for path in layers:
        copied.get_submodule(path).register_forward_hook(note(path))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            given.call(copied)
    except Exception as error:
        raise does_not_run(model, given, error) from error
    for path in layers:
        if path not in seen and path not in left_out:
            left_out[path] = "it does not run"
        elif path in seen and seen[path].count < 2:
            left_out[path] = "it is seen at one place only; give more samples"
        elif path in seen and not bool(torch.isfinite(seen[path].scatter).all()):
            left_out[path] = "its output is not finite"
    rows = [summary(path, type(layers[path]).__name__, seen[path]) for path in seen if path not in left_out]
    if not rows:
        reasons = "; ".join(f"{path or '(the model)'}: {reason}" for path, reason in list(left_out.items())[:3])
        raise InvalidArgument("no layer has outputs to be correlated", where=type(model).__name__, got=reasons)
    return CorrelationReport(tuple(rows), left_out)


def _text(reports: Sequence[tuple[str, CorrelationReport]]) -> str:
    """Measures side by side, and under each measure the models; of two models the measures that tell most."""
    shown = _COLUMNS if len(reports) == 1 else _OF_TWO
    head = ["layer", *(f"{title} {name}".rstrip() for title in shown for name, _ in reports)]
    found: list[Mapping[str, LayerCorrelation]] = [{row.layer: row for row in report.rows} for _, report in reports]
    rows = []
    for path in dict.fromkeys(path for layers in found for path in layers):
        cells = [[_cells(layers.get(path))[_COLUMNS.index(title)] for title in shown] for layers in found]
        rows.append([path or "(the model)", *(cell for column in zip(*cells, strict=True) for cell in column)])
    if len(rows) > 1:
        means = [_figure(report.mean_abs) if title == _MEAN else "" for title in shown for _, report in reports]
        rows.append(["mean over layers", *means])
    parts = [table(head, rows)]
    parts += [f"{name}: {report.notice}" if name else report.notice for name, report in reports if report.notice]
    for name, report in reports:
        if report.left_out:
            lines = "\n".join(f"  {path or '(the model)'}: {reason}" for path, reason in report.left_out.items())
            parts.append(f"Left out{f' of {name}' if name else ''}:\n{lines}")
    return "\n\n".join(parts)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cells(row: LayerCorrelation | None) -> tuple[str, ...]:
    if row is None:
        return ("–",) * len(_COLUMNS)
    strong = "–" if row.strong is None else f"{100 * row.strong:.1f} %"
    varying = f"{row.channels - row.constant} of {row.channels}" if row.constant else str(row.channels)
    return (varying, f"{row.rows:,}", *map(_figure, (row.mean_abs, row.median_abs, row.upper_abs)), strong)
