"""Cases timed, laws fitted to some of them, and held against the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from convfold.cost.device.cases import Case, Values
from convfold.cost.device.clock import Clock
from convfold.cost.device.law import ALL, COUNTED, Law, Spread, fit, off_by, proportional
from convfold.cost.device.work import CONVOLUTIONS

__all__ = ["Effort", "Make", "Timed", "eager", "errors_of", "laws_of", "time_cases"]

# Cases that take turns: enough that a slow second falls on many, and few enough to lie near one another.
_TOGETHER = 40

Make = Callable[[Case], Callable[[], object]]


@dataclass(frozen=True)
class Effort:
    """How much is measured: cases of each kind, rounds, least seconds of a case in a round, the largest's scale."""

    fitted: int = 30
    held_out: int = 20
    rounds: int = 13
    least: float = 0.006
    scale: float = 1.0

    @classmethod
    def quick(cls) -> Effort:
        """A first look, not figures to quote."""
        return cls(fitted=14, held_out=8, rounds=7, least=0.003, scale=0.5)


@dataclass(frozen=True)
class Timed:
    """A case and the seconds of one call; `held_out` if no law was fitted to it."""

    case: Case
    seconds: float
    held_out: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        work = self.case.work
        counted = {"macs": work.macs, "bytes": work.bytes}
        return {**asdict(self.case), **counted, "seconds": self.seconds, "held_out": self.held_out}


def eager(device: torch.device) -> Make:
    """Cases as torch runs them eagerly; all take their values from one place."""
    values = Values(device)
    return lambda case: case.make(values)


def time_cases(
    chosen: Sequence[Case],
    clock: Clock,
    effort: Effort,
    make: Make,
    tell: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Seconds of one call of each case. Those near each other in an order drawn at random take turns.

    `tell` is called with the number of cases done after each group.
    """
    order = random.Random(0).sample(range(len(chosen)), len(chosen))
    seconds = [0.0] * len(chosen)
    with torch.no_grad():
        for start in range(0, len(order), _TOGETHER):
            group = order[start : start + _TOGETHER]
            taken = clock.medians([make(chosen[place]) for place in group], effort.rounds, effort.least)
            for place, median in zip(group, taken, strict=True):
                seconds[place] = median
            tell(start + len(group))
    return seconds


def laws_of(timed: Sequence[Timed]) -> dict[str, Law]:
    """For each kind the law of what was timed and not held out."""
    return {kind: fit([t.case.work for t in own], [t.seconds for t in own]) for kind, own in _kinds(timed, False)}


def errors_of(timed: Sequence[Timed], laws: dict[str, Law]) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """How far the laws miss what was held out, and how far ``seconds = a * MACs`` does: each by kind, and over all.

    The a of a kind is fitted to the same cases as its law; that of ``COUNTED``, which is what one figure of MACs stands
    for, to all convolutions and products. Over ``ALL`` only the laws say anything.
    """
    by_law, by_macs = dict[str, Spread](), dict[str, Spread]()
    fitted, held = dict(_kinds(timed, False)), dict(_kinds(timed, True))
    for kind, own in held.items():
        by_law[kind] = _missed(own, laws)
        by_macs[kind] = _missed(own, {kind: _proportional(fitted[kind])})
    counted = (*CONVOLUTIONS, "linear")
    one = _proportional([t for kind in counted for t in fitted.get(kind, ())])
    compared = [t for kind in counted for t in held.get(kind, ())]
    by_law[COUNTED], by_macs[COUNTED] = _missed(compared, laws), _missed(compared, dict.fromkeys(counted, one))
    by_law[ALL] = _missed([t for own in held.values() for t in own], laws)
    return by_law, by_macs


def _kinds(timed: Sequence[Timed], held_out: bool) -> list[tuple[str, list[Timed]]]:
    names = dict.fromkeys(t.case.work.kind for t in timed)
    return [(kind, [t for t in timed if t.case.work.kind == kind and t.held_out == held_out]) for kind in names]


def _proportional(own: Sequence[Timed]) -> Law:
    return proportional([t.case.work for t in own], [t.seconds for t in own])


def _missed(own: Sequence[Timed], laws: dict[str, Law]) -> Spread:
    predicted = [laws[t.case.work.kind].seconds(t.case.work) for t in own]
    return off_by(predicted, [t.seconds for t in own])
