"""Whether an effect of a block is real, is initial scale, or is not resolved: decided by the corrected tests alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from convfold.studies.compare.blocks.arms import Arm
from convfold.studies.compare.blocks.results import EARLY, END, Results
from convfold.studies.compare.contest_results import Pair

__all__ = ["Kind", "Verdict", "verdict", "verdict_dicts", "verdicts"]

Kind = Literal["real", "scale", "unclear", "open"]
# What a control must leave of an effect, at most, to have explained it: at 95% confidence less than this share.
EXPLAINED = 0.5


@dataclass(frozen=True)
class Verdict:
    """What is known of one block's arm on one task.

    * "open": not resolved from its reference after the correction.
    * "real": resolved from its reference and, to the same side, from each control that could explain it.
    * "scale": resolved from its reference, but a plain network of another initial scale is so too, to the same
      side, and the block is not resolved beyond it: at 95% less than half of the effect is left.
    * "unclear": resolved from its reference, and neither of these.

    A gain could be explained by any plain network of another initial scale, harm only by plain at the block's own:
    that another scale does harm as well says nothing of a block that never had it. `better` is the side on which the
    mean lies; `held` are the controls it was held against, `level_with` those of them beyond which the arm is not
    resolved, `explained_by` those of "scale".
    """

    arm: Arm
    kind: Kind
    better: bool
    claim: Pair
    held: tuple[str, ...] = ()
    explained_by: tuple[str, ...] = ()
    level_with: tuple[str, ...] = ()


def verdict(results: Results, question: str, task: str, arm: Arm) -> Verdict:
    """The verdict on one arm of a block."""
    claim = results.claim(question, task, arm)
    effect = claim.difference.mean
    better = (effect < 0) == results.lower_is_better(question, task)
    if not claim.difference.significant:
        return Verdict(arm, "open", better, claim)
    side = 1 if effect > 0 else -1
    level, explained = [], []
    held = tuple(c for c in arm.controls if better or results.arm(task, c).start == "scale")
    for control in held:
        against = results.scale(question, task, arm.name, control)
        if _resolved(against, side):
            continue
        level.append(control)
        if _resolved(results.scale(question, task, control, arm.reference), side) and _left(against, side) < abs(
            EXPLAINED * effect
        ):
            explained.append(control)
    kind: Kind = "scale" if explained else "unclear" if level else "real"
    return Verdict(arm, kind, better, claim, held, tuple(explained), tuple(level))


def verdicts(results: Results, question: str, task: str) -> list[Verdict]:
    """Of every arm of a block on one task."""
    return [verdict(results, question, task, arm) for arm in results.block_arms(task)]


def verdict_dicts(results: Results) -> list[dict[str, Any]]:
    """Every verdict as plain data."""
    return [
        {
            "question": question,
            "task": task,
            "arm": v.arm.name,
            "verdict": v.kind,
            "better": v.better,
            "explained_by": list(v.explained_by),
            "level_with": list(v.level_with),
            **asdict(v.claim.difference),
            "d_z": asdict(v.claim.effect),
        }
        for question in (END, EARLY)
        for task in results.tasks
        for v in verdicts(results, question, task)
    ]


def _resolved(pair: Pair, side: int) -> bool:
    return pair.difference.significant and pair.difference.mean * side > 0


def _left(pair: Pair, side: int) -> float:
    """The most that the 95% interval leaves between a block and a control, to the side of the block's effect."""
    ends = [end for end in (pair.difference.low, pair.difference.high) if end is not None]
    return max((side * end for end in ends), default=abs(pair.difference.mean))
