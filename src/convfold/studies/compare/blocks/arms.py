"""The arms of ``convfold compare blocks``: blocks, where they start, and plain networks of other initial scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convfold import blocks
from convfold.errors import InvalidArgument
from convfold.studies.asked import check_known

__all__ = ["BLOCKS", "LEFT_OUT", "PLAIN", "SUMS", "Arm", "arms_of", "checked_blocks"]

PLAIN, ROOT, HE, DIRAC = "plain", "plain-sqrt3", "plain-he", "plain-dirac"

# Blocks that fold to the very convolution they stand for, whatever its kernel.
BLOCKS = ("acnet", "dbb", "doconv", "ecb", "expandnet", "mobileone", "orepa", "qarepvgg", "repvgg")
# The others, and why they are not compared: what is deployed would not be plain's architecture, or is nothing else.
LEFT_OUT = {
    "dilated": "its published branches need a kernel of at least 5, and these networks are of 3×3",
    "fire": "half of its outputs see one tap only: a smaller class than plain's, deployed as two convolutions",
    "mixconv": "with 3×3 as its largest kernel it is a plain convolution; with larger ones another architecture",
    "psconv": "it folds to 9×9; its variant inside 3×3 holds taps of plain's kernel at zero",
    "repmlp": "it folds to a fully connected layer over partitions, and its global perceptron stays",
}
# Sums of branches, each with a batch normalisation of its own and none after: they start at a larger scale than plain.
SUMS = ("acnet", "dbb", "mobileone", "repvgg")
# DO-Conv's published start (D = 0 over the identity, W as torch draws it) is plain's own, so it is no arm of its own.
STARTS_AS_PLAIN = ("doconv",)


@dataclass(frozen=True)
class Arm:
    """A competitor on one task.

    `start` is how it begins: "plain", "sqrt3", "he" and "dirac" for plain networks; for a `block`, "equal" (the
    function of the plain network `reference`), "own" (as published); "scale" for plain at the initial scale of `block`
    as published. An arm of a block is held against `reference`, then against each of `controls`.
    """

    name: str
    label: str
    start: str
    block: str = ""
    reference: str = PLAIN
    controls: tuple[str, ...] = ()

    @property
    def is_block(self) -> bool:
        """Whether it trains a block, rather than a plain network."""
        return self.start in ("equal", "own")

    @property
    def role(self) -> str:
        """Which of a page's colours it has."""
        return "accent" if self.is_block else "plain" if self.start == "plain" else "control"


def arms_of(task: str, names: Sequence[str]) -> dict[str, Arm]:
    """The arms of a task by name, for these blocks: plain first, then controls, then blocks."""
    own = [name for name in names if name not in STARTS_AS_PLAIN]
    if task == "deep":
        plain = [_plain(), _he(), Arm(DIRAC, "plain (Dirac)", "dirac")]
        equal = [_equal(name, HE, (DIRAC,), " from He") for name in names]
        return _by_name([*plain, *map(_scale, own), *equal, *(_own(name, (_scaled(name), HE, DIRAC)) for name in own)])
    if task == "sr":
        # ECB alone is published for super-resolution; the other published starts would double the work.
        own = [name for name in own if name == "ecb"]
        equal = [_equal(name, PLAIN, (HE,)) for name in names]
        return _by_name([_plain(), _he(), *map(_scale, own), *equal, *(_own(n, (_scaled(n), HE)) for n in own)])
    # Behind a batch normalisation an initial scale is gone: only the sums have one.
    sums = [name for name in own if name in SUMS]
    equal = [_equal(name, PLAIN, (ROOT,)) for name in names]
    drawn = [_own(name, (_scaled(name), ROOT) if name in SUMS else (ROOT,)) for name in own]
    return _by_name([_plain(), Arm(ROOT, "plain (γ = √3)", "sqrt3"), *map(_scale, sums), *equal, *drawn])


def _by_name(arms: Sequence[Arm]) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


def _plain() -> Arm:
    return Arm(PLAIN, "plain", "plain")


def _he() -> Arm:
    return Arm(HE, "plain (He)", "he")


def _scaled(block: str) -> str:
    return f"plain-as-{block}"


def _scale(block: str) -> Arm:
    return Arm(_scaled(block), f"plain at {block}'s scale", "scale", block)


def _equal(block: str, reference: str, controls: tuple[str, ...], said: str = "") -> Arm:
    return Arm(block, f"{block}{said}", "equal", block, reference, controls)


def _own(block: str, controls: tuple[str, ...]) -> Arm:
    return Arm(f"{block}-own", f"{block} (own start)", "own", block, PLAIN, controls)


def checked_blocks(names: Sequence[str]) -> list[str]:
    """`names` without repetition. Raises UnknownName with the nearest names, InvalidArgument for one of `LEFT_OUT`."""
    for name in names:
        if name in LEFT_OUT:
            raise InvalidArgument(
                "this block is not compared with plain",
                where="--blocks",
                got=f"{name}: {LEFT_OUT[name]}",
                expected=", ".join(BLOCKS),
            )
    check_known("block", "--blocks", names, BLOCKS, near=blocks.names())
    if not names:
        raise InvalidArgument("there is no block to compare", where="--blocks", expected=", ".join(BLOCKS))
    return list(dict.fromkeys(names))
