"""The convex problems of ``convfold compare depth``: a linear map W, a loss of W x, its gradient, and a start."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.train import Data, digits

__all__ = ["OUTPUTS", "TASKS", "Classification", "Problem", "Regression", "Task"]

SAMPLES, INPUTS, OUTPUTS = 64, 8, 4
# Of the digits, a third trains: full-batch descent in float64 is what costs here.
TEST_SHARE = 2 / 3


@dataclass(frozen=True)
class Regression:
    """``L(W) = mean_n sum_o |(W x_n - y_n)_o|^p / p`` with ``y = W* x``: its least value is 0.

    inputs (d, n), teacher and start (k, d), float64; p is even.
    """

    inputs: Tensor
    teacher: Tensor
    start: Tensor
    p: int

    def loss_and_gradient(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """``L`` (...) and ``dL/dW`` (..., k, d) of maps (..., k, d)."""
        residual = (weight - self.teacher) @ self.inputs
        slope = residual if self.p == 2 else residual ** (self.p - 1)
        loss = (slope * residual).sum((-2, -1)) / (self.p * self.inputs.shape[1])
        return loss, slope @ self.inputs.T / self.inputs.shape[1]

    def curvature(self, direction: Tensor) -> Tensor:
        """The Hessian of `L` for p = 2, which is the same everywhere, applied to `direction` (k, d)."""
        return direction @ self.inputs @ self.inputs.T / self.inputs.shape[1]


@dataclass(frozen=True)
class Classification:
    """Mean cross-entropy of ``softmax(W x)``: inputs (d, n), labels (n,), start (k, d); and the part that tests."""

    inputs: Tensor
    labels: Tensor
    start: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    def loss_and_gradient(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """``L`` (...) and ``dL/dW`` (..., k, d) of maps (..., k, d)."""
        scores = weight @ self.inputs
        logs = scores.log_softmax(-2)
        target = F.one_hot(self.labels, weight.shape[-2]).T.to(weight)
        loss = -(logs * target).sum((-2, -1)) / len(self.labels)
        return loss, (logs.exp() - target) @ self.inputs.T / len(self.labels)

    def wrong(self, weight: Tensor) -> int:
        """How many test images the map (k, d) gives another class than their own."""
        return int(((weight @ self.test_inputs).argmax(0) != self.test_labels).sum())


Problem = Regression | Classification


@dataclass(frozen=True)
class Task:
    """A kind of problem: `kind` is "vector" (one output), "matrix", "targets" or "digits".

    `condition` is the largest over the least eigenvalue of the inputs' second moment, for "targets" the largest over
    the least target; `scale` the norm of the start, in that of the teacher (digits: entries of variance scale^2/d).
    """

    kind: str
    scale: float
    p: int = 2
    condition: int = 1

    @property
    def label(self) -> str:
        start = f"start ×{self.scale:g}"
        if self.kind == "digits":
            return f"digits, softmax, {start}"
        what = {"vector": "one output", "matrix": f"{OUTPUTS} outputs", "targets": "uneven targets"}[self.kind]
        return f"{what}, p = {self.p}, κ = {self.condition}, {start}"

    @property
    def level(self) -> float:
        """The share of the initial loss at which a run counts as done."""
        return 0.02 if self.kind == "digits" else 1e-4

    def problem(self, seed: int) -> Problem:
        """The problem of one seed, with the start that is the same at every depth."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        if self.kind == "digits":
            data = _digits(seed)
            parts = (data.train_x, data.test_x)
            train, test = (part.double().flatten(1).T.contiguous() for part in parts)
            start = self.scale * normal(data.num_classes, len(train)) / math.sqrt(len(train))
            return Classification(train, data.train_y, start, test, data.test_y)
        rows = OUTPUTS if self.kind == "matrix" else 1
        falling = torch.logspace(0, -math.log10(self.condition), INPUTS, dtype=torch.float64)
        if self.kind == "targets":
            inputs = math.sqrt(INPUTS) * torch.eye(INPUTS, dtype=torch.float64)
            teacher = falling * normal(rows, INPUTS).sign()
        else:
            # Orthonormal columns on both sides: the second moment has the eigenvalues `falling`, exactly.
            samples = torch.linalg.qr(normal(SAMPLES, INPUTS))[0] * math.sqrt(SAMPLES)
            axes = torch.linalg.qr(normal(INPUTS, INPUTS))[0]
            inputs = axes @ (samples * falling.sqrt()).T
            teacher = normal(rows, INPUTS)
        start = normal(rows, INPUTS)
        unit = math.sqrt(rows)
        return Regression(inputs, unit * teacher / teacher.norm(), self.scale * unit * start / start.norm(), self.p)


@lru_cache(maxsize=1)
def _digits(seed: int) -> Data:
    return digits(split_seed=seed, test_fraction=TEST_SHARE)


STARTS = {"small": 0.1, "unit": 1.0}
TASKS: dict[str, Task] = {
    **{
        f"{kind}-p{p}-k{condition}-{start}": Task(kind, scale, p, condition)
        for kind in ("vector", "matrix")
        for p in (2, 4)
        for condition in (10, 100)
        for start, scale in STARTS.items()
    },
    **{f"targets-p{p}-k100-{start}": Task("targets", scale, p, 100) for p in (2, 4) for start, scale in STARTS.items()},
    **{f"digits-{start}": Task("digits", scale) for start, scale in STARTS.items()},
}
