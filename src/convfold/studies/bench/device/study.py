"""The user's machine measured: roofs, a law for each kind of operator, and the forms of a layer side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from convfold.cost.device.cases import Case, cases
from convfold.cost.device.clock import Clock
from convfold.cost.device.law import Spread
from convfold.cost.device.measure import Effort, Timed, eager, errors_of, laws_of, time_cases
from convfold.cost.device.place import here
from convfold.cost.device.roofs import measure_roofs
from convfold.cost.device.work import KINDS
from convfold.cost.roofline import Device
from convfold.errors import InvalidArgument
from convfold.files import write_text
from convfold.studies.timing import steady_allocator

__all__ = ["FORMS", "Comparison", "Measured", "bench_device", "usable_device"]

# Channels and size of the layers whose forms are compared, each with about the work of the next in a network.
LAYERS = ((32, 112), (64, 56), (128, 28), (256, 14))
FORMS = ("dense 3x3", "1x1", "depthwise 3x3", "depthwise 3x3 + 1x1")
_ROOF_ROUNDS, _LONGER = 9, 3


@dataclass(frozen=True)
class Comparison:
    """The forms of one layer, from `channels` to as many at `size` x `size`: each one's cases and seconds."""

    channels: int
    size: int
    forms: dict[str, tuple[Timed, ...]]

    def seconds(self, form: str) -> float:
        """Of all operators of this form together."""
        return sum(timed.seconds for timed in self.forms[form])

    def macs(self, form: str) -> int:
        return sum(timed.case.work.macs for timed in self.forms[form])

    def bytes(self, form: str) -> int:
        return sum(timed.case.work.bytes for timed in self.forms[form])

    def intensity(self, form: str) -> float:
        """FLOPs for each byte."""
        return 2 * self.macs(form) / self.bytes(form)

    def attained(self, form: str) -> float:
        """FLOP/s."""
        return 2 * self.macs(form) / self.seconds(form)

    def slower(self, form: str) -> float:
        """Seconds relative to the dense form's, over MACs relative to it: 1 where MACs are latency."""
        dense = FORMS[0]
        return self.seconds(form) / self.seconds(dense) / (self.macs(form) / self.macs(dense))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        forms = {
            form: {
                "macs": self.macs(form),
                "bytes": self.bytes(form),
                "seconds": self.seconds(form),
                "intensity": self.intensity(form),
                "flops_per_second": self.attained(form),
                "slower_than_macs_say": self.slower(form),
            }
            for form in self.forms
        }
        return {"channels": self.channels, "size": self.size, "forms": forms}


@dataclass(frozen=True)
class Measured:
    """A device, what was timed for it, how far ``a * MACs`` is off on the held-out cases, and the compared layers."""

    device: Device
    timed: tuple[Timed, ...]
    by_macs: dict[str, Spread]
    comparisons: tuple[Comparison, ...]
    effort: Effort
    allocator: str

    def to_dict(self) -> dict[str, Any]:
        """What `Device.load` reads, and everything beside it."""
        return {
            **self.device.to_dict(),
            "study": "bench device",
            "allocator": self.allocator,
            "effort": asdict(self.effort),
            "errors_by_macs": {kind: spread.to_dict() for kind, spread in self.by_macs.items()},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "cases": [timed.to_dict() for timed in self.timed],
        }

    def save(self, path: Path) -> None:
        """Write everything to `path`. Raises FileProblem where that cannot be written."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")


def usable_device(name: str) -> torch.device:
    """The device of this name. Raises InvalidArgument for one that torch does not have here, or that is not timed."""
    known = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name not in known:
        raise InvalidArgument("--device names no device of this machine", got=repr(name), expected=" or ".join(known))
    return torch.device(name)


@contextmanager
def _threads(count: int | None) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def bench_device(
    device: torch.device,
    effort: Effort,
    threads: int | None = None,
    tell: Callable[[str], None] = lambda stage: None,
) -> Measured:
    """Measure `device` in eager torch with so many threads (None: as many as torch uses now).

    `tell` is told each stage. torch's number of threads is put back; the allocator of this process is changed for good
    (see `steady_allocator`).
    """
    allocator = steady_allocator()
    with _threads(threads) as count:
        clock = Clock(device, count)
        tell("roofs")
        roofs = measure_roofs(clock, min(effort.rounds, _ROOF_ROUNDS), effort.least)
        chosen = [
            (case, held)
            for held, each in ((False, effort.fitted), (True, effort.held_out))
            for case in cases(each, held_out=held, scale=effort.scale)
        ]
        tell("forms of a layer")
        forms = [_forms(*layer) for layer in LAYERS]
        # They are held against one another, so they all take turns, and longer.
        compared = list(dict.fromkeys(case for each in forms for form in each.values() for case in form))
        longer = replace(effort, rounds=_LONGER * effort.rounds)
        found = dict(zip(compared, time_cases(compared, clock, longer, eager(device)), strict=True))

        def told(done: int) -> None:
            tell(f"operators: {done} of {len(chosen)} timed")

        seconds = time_cases([case for case, _ in chosen], clock, effort, eager(device), told)
        timed = tuple(Timed(case, taken, held) for (case, held), taken in zip(chosen, seconds, strict=True))
        laws = laws_of(timed)
        errors, by_macs = errors_of(timed, laws)
        place = here(device)
    comparisons = tuple(
        Comparison(*layer, {name: tuple(Timed(case, found[case]) for case in form) for name, form in each.items()})
        for layer, each in zip(LAYERS, forms, strict=True)
    )
    fastest = max((*timed, *(t for each in comparisons for form in each.forms.values() for t in form)), key=_attained)
    if _attained(fastest) > roofs.peak:
        roofs = replace(roofs, peak=_attained(fastest))
    measured = Device(place, clock.name, roofs, {kind: laws[kind] for kind in KINDS}, errors)
    return Measured(measured, timed, by_macs, comparisons, effort, allocator)


def _attained(timed: Timed) -> float:
    # Of a pooling, what is added up is no multiply-accumulate.
    return timed.case.work.flops / timed.seconds if timed.case.kind != "pooling" else 0.0


def _forms(channels: int, size: int) -> dict[str, tuple[Case, ...]]:
    shape = (1, channels, channels, size)
    dense, point = Case("dense", *shape, kernel=3), Case("pointwise", *shape)
    depthwise = Case("depthwise", *shape, kernel=3, groups=channels)
    return dict(zip(FORMS, ((dense,), (point,), (depthwise,), (depthwise, point)), strict=True))
