"""The certificate: how far two functions were apart, how far they may be, and where that was seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Certificate", "Probe", "as_double", "compare", "gamma"]


@dataclass(frozen=True)
class Probe:
    """One input that both were run on: its shapes, and the error and bound it gave."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    error: float
    bound: float
    border_error: float
    interior_error: float

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "shapes": [list(shape) for shape in self.shapes]}


@dataclass(frozen=True)
class Certificate:
    """The outcome of a comparison; true iff every probe stayed within its bound.

    `error` and `bound` are those of the probe that came closest to its bound (or passed it most), both
    relative to `scale`; `border_error` and `interior_error` are the largest ones in the outer eighth of
    each spatial axis and inside. `worst_input` is the input of that probe.
    """

    error: float
    bound: float
    scale: str
    probes: tuple[Probe, ...]
    dtype: str
    worst_input: Any = field(default=None, repr=False)

    @property
    def equal(self) -> bool:
        return all(probe.error <= probe.bound for probe in self.probes)

    @property
    def border_error(self) -> float:
        return max(probe.border_error for probe in self.probes)

    @property
    def interior_error(self) -> float:
        return max(probe.interior_error for probe in self.probes)

    @property
    def complaint(self) -> str:
        """What is said of a rewriting that this certificate undoes."""
        return f"the result was not equal (error {self.error:.1e}, bound {self.bound:.1e}); it was rolled back"

    def __bool__(self) -> bool:
        return self.equal

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the worst input is left out."""
        return {
            "equal": self.equal,
            "error": self.error,
            "bound": self.bound,
            "border_error": self.border_error,
            "interior_error": self.interior_error,
            "scale": self.scale,
            "dtype": self.dtype,
            "probes": [probe.to_dict() for probe in self.probes],
        }

    def __str__(self) -> str:
        verdict = "equal" if self.equal else "NOT EQUAL"
        lines = [
            f"{verdict}: error {self.error:.2e} against a bound of {self.bound:.2e} (relative to {self.scale})",
            f"  border {self.border_error:.2e}, interior {self.interior_error:.2e}, {len(self.probes)} probes, "
            f"weights in {self.dtype}",
        ]
        for probe in self.probes:
            sizes = ", ".join("x".join(map(str, shape)) for shape in probe.shapes)
            lines.append(f"  {probe.name} {sizes}: {probe.error:.2e} of {probe.bound:.2e}")
        return "\n".join(lines)

    @classmethod
    def of(cls, probes: list[Probe], inputs: list[Any], scale: str, dtype: str) -> Certificate:
        """The certificate of these probes, run on these inputs."""
        worst = max(range(len(probes)), key=lambda i: probes[i].error / max(probes[i].bound, 1e-300))
        return cls(probes[worst].error, probes[worst].bound, scale, tuple(probes), dtype, inputs[worst])


def gamma(roundings: int) -> float:
    """``gamma_n = n*u / (1 - n*u)`` in float64: how far n roundings may take a sum, relative to its absolute terms.

    u is half the distance from 1 to the next number (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1).
    """
    unit = torch.finfo(torch.float64).eps / 2
    return roundings * unit / (1 - roundings * unit)


def as_double(tensor: Tensor) -> Tensor:
    """The values in float64; a complex tensor as pairs of reals."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).to(torch.float64)


def compare(a: Tensor, b: Tensor, scale: Tensor | float) -> tuple[float, float, float]:
    """``max |a - b| / scale`` over all elements, over the border and over the interior.

    The border is the outer eighth (at least one position) of each axis behind (N, C). Values that are finite
    on one side only count as infinitely far apart, as do tensors of different shapes.
    """
    if a.numel() == 0:
        return 0.0, 0.0, 0.0
    a, b = as_double(a), as_double(b)
    if a.shape != b.shape:
        return float("inf"), float("inf"), float("inf")
    distance = (a - b).abs()
    distance[(a == b) | (a.isnan() & b.isnan())] = 0.0
    distance = torch.nan_to_num(distance, nan=float("inf"), posinf=float("inf"))
    # A scale of zero means that every term is zero: any distance is then infinitely large.
    relative = torch.where(distance == 0, 0.0, distance / torch.as_tensor(scale, dtype=torch.float64))
    total = float(relative.max())
    if relative.dim() <= 2:
        return total, total, total
    edges = [max(1, n // 8) for n in relative.shape[2:]]
    inside = (slice(None), slice(None), *(slice(e, n - e) for e, n in zip(edges, relative.shape[2:], strict=True)))
    inner = relative[inside]
    outer = relative.clone()
    outer[inside] = 0.0
    return total, float(outer.max()), float(inner.max()) if inner.numel() else 0.0
