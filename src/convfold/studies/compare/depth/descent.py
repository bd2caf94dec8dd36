"""Full-batch gradient descent of balanced chains, at many learning rates at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convfold.studies.compare.depth.chain import balanced, gradients, imbalance, product
from convfold.studies.compare.depth.problems import Problem

__all__ = ["Descent", "descend", "recorded"]

# A loss beyond so many times the first one does not come back: the chain is not stepped further.
LOST = 1e6
LOOK = 10


@dataclass(frozen=True)
class Descent:
    """`losses` (steps + 1, rates), infinite from where a chain was lost; `maps` (records, rates, k, d) if they are
    kept; the last imbalance of each chain.
    """

    losses: Tensor
    maps: Tensor | None
    imbalance: tuple[float, ...]

    def settled(self, level: float, rate: int) -> int | None:
        """The steps after which the loss of chain `rate` is at most `level` times the initial one, and stays so.

        None where it is above at the end: a large rate can pass by a minimum that it does not stay at.
        """
        above = (self.losses[:, rate] > level * self.losses[0, rate]).nonzero()
        count = int(above[-1]) + 1 if len(above) else 0
        return count if count < len(self.losses) else None

    def last(self, rate: int) -> float | None:
        """The loss after all steps, in that before the first; None for a chain that was lost."""
        value = float(self.losses[-1, rate] / self.losses[0, rate])
        return value if value < LOST else None


def recorded(steps: int) -> list[int]:
    """Steps at which curves are kept: every one at first, then so that each is about a sixth more than the last."""
    found = [0]
    while found[-1] < steps:
        found.append(min(steps, max(found[-1] + 1, round(found[-1] * 1.16))))
    return found


def descend(problem: Problem, depth: int, rates: Sequence[float], steps: int, keep: Sequence[int] = ()) -> Descent:
    """``W_j <- W_j - rate dL/dW_j`` for all j at once, `steps` times, from the balanced start, for each of `rates`.

    `keep` are the steps after which the end-to-end maps are kept.
    """
    count = len(rates)
    factors = [factor.expand(count, *factor.shape) for factor in balanced(problem.start, depth)]
    rate = torch.tensor(rates, dtype=torch.float64)[:, None, None]
    losses = torch.full((steps + 1, count), torch.inf, dtype=torch.float64)
    maps, wanted = [], set(keep)
    alive = torch.arange(count)
    for step in range(steps + 1):
        weight = product(factors)
        loss, gradient = problem.loss_and_gradient(weight)
        losses[step, alive] = loss
        if step in wanted:
            whole = torch.full((count, *weight.shape[1:]), torch.nan, dtype=torch.float64)
            whole[alive] = weight
            maps.append(whole)
        if step % LOOK == 0 and not bool((stays := loss <= LOST * losses[0, 0]).all()):
            alive, rate, gradient = alive[stays], rate[stays], gradient[stays]
            factors = [factor[stays] for factor in factors]
        slopes = gradients(factors, gradient)
        factors = [factor - rate * slope for factor, slope in zip(factors, slopes, strict=True)]
    left = [torch.nan] * count
    for index, chain in enumerate(alive.tolist()):
        left[chain] = imbalance([factor[index] for factor in factors])
    losses = torch.where(losses.isfinite(), losses, torch.inf)
    return Descent(losses, torch.stack(maps) if maps else None, tuple(left))
