"""The rank of kernels and of feature maps, measured on a model: what a decomposition could save, before any is made."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import twin
from convfold.errors import InvalidArgument
from convfold.graph import example_inputs
from convfold.graph.inputs import does_not_run
from convfold.plan.table import table
from convfold.transform.decompose.choose import choose
from convfold.transform.decompose.layer import Layer, read_layer, refusal
from convfold.transform.decompose.linear_algebra import spectrum
from convfold.transform.decompose.separable import separable_spectrum
from convfold.transform.decompose.split import matricise
from convfold.transform.layers import Where

__all__ = ["ENERGIES", "Features", "RankReport", "RankRow", "effective_ranks", "rank"]

ENERGIES = (0.9, 0.99)


@dataclass(frozen=True)
class Features:
    """How many directions a layer's output channels really use, from the spectrum l of their covariance.

    `participation` is ``(sum l)^2 / sum l^2``; `entropy` is ``exp(-sum p log p)`` with ``p = l / sum l`` (Roy and
    Vetterli, The effective rank, EUSIPCO 2007). Both are 1 for one direction, C for C of equal strength.
    """

    channels: int
    participation: float
    entropy: float


@dataclass(frozen=True)
class RankRow:
    """One layer's kernel, and its outputs where inputs were given.

    `full` and `numerical` are those of the kernel as a matrix (C_out/g x C_in/g * taps), over groups the largest;
    `energy` the ranks that hold 90 % and 99 % of its squared norm (svd across channels, all groups alike), `spatial`
    the same between the two axes of a 2-D kernel, of `spatial_full`. `separable` is ``||W - W_1|| / ||W||`` for the
    nearest depthwise separable W_1, `worst_channel` the largest residual of one input channel.
    """

    layer: str
    type: str
    full: int
    numerical: int
    energy: tuple[int, int]
    separable: float | None
    worst_channel: float | None
    spatial: tuple[int, int] | None
    spatial_full: int | None
    features: Features | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self.__dict__, "features": None if self.features is None else dict(self.features.__dict__)}


@dataclass(frozen=True)
class RankReport:
    """One row per layer; `left_out` says why others have none."""

    rows: tuple[RankRow, ...]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"rows": [row.to_dict() for row in self.rows], "left_out": self.left_out}

    def __str__(self) -> str:
        head = ("layer", "rank", "90 %", "99 %", "separable", "worst", "spatial 99 %", "features", "entropy")
        cells = []
        for row in self.rows:
            numerical = f"{row.numerical} of {row.full}"
            separable = ("-", "-") if row.separable is None else (f"{row.separable:.3g}", f"{row.worst_channel:.3g}")
            spatial = "-" if row.spatial is None else f"{row.spatial[1]} of {row.spatial_full}"
            seen = row.features
            used = (
                ("-", "-") if seen is None else (f"{seen.participation:.1f} of {seen.channels}", f"{seen.entropy:.1f}")
            )
            cells.append((row.layer or "(the model)", numerical, *map(str, row.energy), *separable, spatial, *used))
        parts = [table(head, cells)]
        if self.left_out:
            kept = "\n".join(f"  {path or '(the model)'}: {reason}" for path, reason in self.left_out.items())
            parts.append(f"Left out:\n{kept}")
        return "\n\n".join(parts)


def effective_ranks(covariance: Tensor) -> Features:
    """The effective ranks of a covariance (C, C); 0 where there is no variance at all."""
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    total = float(values.sum())
    if not total:
        return Features(len(values), 0.0, 0.0)
    shares = values / total
    entropy = float(torch.special.entr(shares).sum().exp())
    return Features(len(values), float(1 / shares.square().sum()), entropy)


def rank(model: nn.Module, inputs: object = None, where: Where = None) -> RankReport:
    """The ranks of the kernels that `where` chooses (every convolution without it), and of their outputs on `inputs`.

    The covariance of a layer's outputs is taken over samples and positions, in eval mode, of a copy. Raises
    InvalidArgument where there is no convolution, or the model does not run on the inputs.
    """
    rows, left_out = [], {}
    seen = {} if inputs is None else _covariances(model, inputs, list(choose(model, where)))
    for path, module in choose(model, where).items():
        if reason := refusal(nn.Sequential(module), module, exposed=False):
            left_out[path] = reason
            continue
        covariance = seen.get(path)
        rows.append(_row(read_layer(path, module), None if covariance is None else effective_ranks(covariance)))
    if not rows:
        raise InvalidArgument(
            "no layer has a kernel to be ranked", got="; ".join(f"{p}: {r}" for p, r in list(left_out.items())[:3])
        )
    return RankReport(tuple(rows), left_out)


def _row(layer: Layer, features: Features | None) -> RankRow:
    values = spectrum(matricise(layer.weight, tuple(range(len(layer.shape.kernel))))).values
    largest = values.amax(-1, keepdim=True)
    # What torch.linalg.matrix_rank calls zero, for numbers of the layer's own precision.
    sides = max(layer.shape.rows, layer.shape.columns * layer.shape.taps)
    numerical = int((values > largest * sides * torch.finfo(layer.dtype).eps).sum(-1).max())
    separable = worst = spatial = spatial_full = None
    if layer.shape.long_axes:
        channels = separable_spectrum(layer.weight).values
        rest = channels[..., 1:].square().sum(-1)
        whole = channels.square().sum(-1)
        separable = float((rest.sum() / whole.sum()).sqrt()) if bool(whole.any()) else 0.0
        worst = float(torch.where(whole > 0, rest / whole, 0.0).max().sqrt())
    if len(layer.shape.long_axes) == 2:
        between = spectrum(matricise(layer.weight, layer.shape.long_axes[:1])).values
        spatial, spatial_full = _energy(between), between.shape[-1]
    kind = repr(layer.module)
    return RankRow(
        layer.path,
        kind,
        values.shape[-1],
        numerical,
        _energy(values),
        separable,
        worst,
        spatial,
        spatial_full,
        features,
    )


def _energy(values: Tensor) -> tuple[int, int]:
    """The least ranks, one for all matrices of the stack, that hold each of `ENERGIES` of the whole."""
    squares = values.square().reshape(-1, values.shape[-1]).sum(0)
    shares = squares.cumsum(0) / squares.sum().clamp_min(torch.finfo(torch.float64).tiny)
    least, most = (min(int((shares < energy).sum()) + 1, values.shape[-1]) for energy in ENERGIES)
    return least, most


def _covariances(model: nn.Module, inputs: object, paths: list[str]) -> dict[str, Tensor]:
    """Per layer that runs the covariance of its output channels, over samples, positions and calls, in float64."""
    copied = twin(model).eval()
    given = example_inputs(copied, inputs)
    count: dict[str, int] = defaultdict(int)
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            axes = 0 if isinstance(module, nn.Linear) else module.weight.dim() - 2  # type: ignore[operator]
            rows = out.detach().to("cpu", torch.float64).movedim(out.dim() - axes - 1, -1).flatten(0, -2)
            count[path] += len(rows)
            first[path] = first.get(path, 0) + rows.sum(0)
            second[path] = second.get(path, 0) + rows.mT @ rows

        return hook

    for path in paths:
        copied.get_submodule(path).register_forward_hook(note(path))
    try:
        with torch.no_grad():
            given.call(copied)
    except Exception as error:
        raise does_not_run(model, given, error) from error
    means = {path: first[path] / count[path] for path in second}
    return {path: second[path] / count[path] - torch.outer(means[path], means[path]) for path in second}
