"""What theory predicts of a chain: the gradient flow of its end-to-end map, and the step at which descent breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convfold.errors import ConvfoldError
from convfold.studies.compare.depth.chain import preconditioned
from convfold.studies.compare.depth.problems import Problem, Regression

__all__ = ["Flow", "flow", "largest_rate"]

# Far below the deviation of descent from the flow, which is of the order of the step.
RELATIVE, ABSOLUTE = 1e-8, 1e-11


@dataclass(frozen=True)
class Flow:
    """The solution up to the last time asked for, or to the time when the last level is reached."""

    end: float
    crossings: tuple[float | None, ...]
    _at: object

    def map(self, time: float) -> Tensor:
        """``W(time)`` (k, d), float64, for times up to `end`."""
        found: Tensor = self._at(time)  # type: ignore[operator]
        return found


def flow(problem: Problem, depth: int, until: float, levels: Sequence[float]) -> Flow:
    """Integrate ``dW/dt = -P_W(dL/dW)`` from the problem's start; `crossings` are when L first is at `levels`.

    `levels` are losses, falling; at the last of them the integration ends, and `crossings` has None for those that lie
    beyond `until`. Explicit Runge-Kutta of order 8 with error control. Needs scipy. Raises ConvfoldError where the
    integrator gives up.
    """
    from scipy.integrate import solve_ivp  # noqa: PLC0415

    shape = problem.start.shape

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        weight = torch.from_numpy(state).reshape(shape)
        return -preconditioned(weight, problem.loss_and_gradient(weight)[1], depth).flatten().numpy()

    def crossing(level: float) -> object:
        def event(_: float, state: np.ndarray) -> float:
            return float(problem.loss_and_gradient(torch.from_numpy(state).reshape(shape))[0]) / level - 1

        event.terminal = level == levels[-1]  # type: ignore[attr-defined]
        return event

    try:
        solved = solve_ivp(
            velocity,
            (0.0, until),
            problem.start.flatten().numpy(),
            method="DOP853",
            dense_output=True,
            events=[crossing(level) for level in levels],
            rtol=RELATIVE,
            atol=ABSOLUTE,
        )
        failure = None if solved.success else solved.message
    except RuntimeError as error:  # torch's, where singular values cannot be found
        failure = str(error)
    if failure is not None:
        raise ConvfoldError("the flow cannot be integrated", where=f"depth {depth}", got=failure.rstrip("."))

    def at(time: float) -> Tensor:
        return torch.from_numpy(solved.sol(time)).reshape(shape)

    crossings = tuple(float(found[0]) if len(found) else None for found in solved.t_events)
    return Flow(float(solved.t[-1]), crossings, at)


def largest_rate(problem: Regression, depth: int) -> float:
    """``2 / max eig (P_W* H)``: above this learning rate descent on squared error leaves the teacher W* again.

    Near W* a step is ``D <- D - rate P_W*(H D)`` to first order, so it shrinks every direction only below it.
    """
    size = problem.teacher.numel()
    columns = [
        preconditioned(problem.teacher, problem.curvature(unit.reshape(problem.teacher.shape)), depth).flatten()
        for unit in torch.eye(size, dtype=problem.teacher.dtype)
    ]
    return 2 / float(torch.linalg.eigvals(torch.stack(columns, 1)).real.max())
