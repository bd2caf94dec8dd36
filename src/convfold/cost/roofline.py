"""A machine as it was measured: its roofs, the seconds that each kind of operator takes, and how far off these are.

The roofline is ``attainable FLOP/s = min(peak, intensity * bandwidth)``, of an operator that does `intensity` FLOPs for
each byte it moves (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009). Seconds are those of a law for each
kind of operator, ``overhead + bytes / bandwidth + MACs / rate``, which `convfold bench device` fits.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convfold.cost.device.law import ALL, COUNTED, Law, Spread
from convfold.cost.device.place import Place, cache_folder, here
from convfold.cost.device.roofs import Roofs
from convfold.cost.device.rows import works
from convfold.cost.device.work import KINDS, Work
from convfold.cost.report import CostReport, Row
from convfold.errors import ConvfoldWarning, FileProblem, InvalidArgument
from convfold.files import output_folder, write_text

__all__ = ["ALL", "COUNTED", "Device", "Law", "Place", "Roofs", "Spread", "Work", "layer_seconds", "stored"]

_HINT = "Make it anew by convfold bench device."


@dataclass(frozen=True)
class Device:
    """What `convfold bench device` found on one machine.

    `laws` are by kind of operator; `errors` are the factors by which predictions missed on shapes that were not fitted
    to: by kind, over convolutions and products (``COUNTED``), and over all (``ALL``).
    """

    place: Place
    clock: str
    roofs: Roofs
    laws: Mapping[str, Law]
    errors: Mapping[str, Spread]

    def roof(self, intensity: float) -> float:
        """The FLOP/s that the machine allows at so many FLOPs for each byte: ``min(peak, intensity * bandwidth)``."""
        return min(self.roofs.peak, intensity * self.roofs.bandwidth)

    @property
    def ridge(self) -> float:
        """FLOPs for each byte from which on arithmetic, not memory, is the limit."""
        return self.roofs.peak / self.roofs.bandwidth

    def predict(self, layer: Row | Work, module: nn.Module | None = None) -> float:
        """Seconds that the operators of a row of a cost report take, or of one piece of work.

        `module` is the row's, where it is at hand (see `convfold.cost.device.rows.works`).
        """
        if isinstance(layer, Work):
            return self.laws[layer.kind].seconds(layer)
        return sum(self.predict(work) for work in works(layer, module))

    def latency(self, report: CostReport, model: nn.Module | None = None) -> tuple[float, ...]:
        """Seconds for each of ``report.rows``; their sum is the model's. `model` is the one that was counted.

        Operators are taken one by one, as eager execution does; views and Python between them are not seen.
        """
        modules = {} if model is None else dict(model.named_modules())
        return tuple(self.predict(row, modules.get(row.path)) for row in report.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "place": asdict(self.place),
            "clock": self.clock,
            "roofs": self.roofs.to_dict(),
            "laws": {kind: law.to_dict() for kind, law in self.laws.items()},
            "errors": {kind: error.to_dict() for kind, error in self.errors.items()},
        }

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write it to `path`, or where `stored` looks for it. Raises FileProblem where that cannot be written."""
        target = cache_folder() / self.place.file_name if path is None else Path(path)
        output_folder(target.parent)
        write_text(target, json.dumps(self.to_dict(), indent=1) + "\n")
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Device:
        """Read what `save` wrote, of this or of another machine (see `place`).

        Raises FileProblem for a file that cannot be read or is none of these.
        """
        try:
            found = json.loads(Path(path).read_text())
            device = cls(
                Place(**found["place"]),
                str(found["clock"]),
                Roofs(**found["roofs"]),
                {kind: Law(**found["laws"][kind]) for kind in KINDS},
                {kind: Spread(**found["errors"][kind]) for kind in (*KINDS, COUNTED, ALL)},
            )
            _check(device)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise FileProblem(f"cannot read ({reason})", where=str(path), hint=_HINT) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileProblem("not the measurement of a device, or damaged", where=str(path), hint=_HINT) from error
        return device

    def foreign(self) -> str:
        """Why its seconds are not this process's: where it was measured and where this is; empty where they are one."""
        place = self.place
        now = here(torch.device(place.device), getattr(torch, place.dtype), place.backend.partition(" ")[0])
        return "" if now == place else f"measured on {place}; this is {now}"


def _check(device: Device) -> None:
    roofs = device.roofs
    laws = [(law.overhead, law.byte, law.mac) for law in device.laws.values()]
    positive = [roofs.peak, roofs.bandwidth, roofs.cached, roofs.call, *map(sum, laws)]
    factors = [error.most for error in device.errors.values()]
    if (
        not all(isfinite(value) and value > 0 for value in (*positive, *factors))
        or min(map(min, laws)) < 0
        or min(factors) < 1
    ):
        raise ValueError("what is measured is positive")


def stored(
    device: torch.device | None = None, dtype: torch.dtype = torch.float32, backend: str = "torch"
) -> Device | None:
    """What `convfold bench device` left for this machine, device, precision and number of threads; None where nothing.

    A file that is damaged, or another machine's under this one's name, is not used, and a ConvfoldWarning says so.
    """
    place = here(torch.device("cpu") if device is None else device, dtype, backend)
    path = cache_folder() / place.file_name
    if not path.exists():
        return None
    try:
        found = Device.load(path)
    except FileProblem as problem:
        warnings.warn(ConvfoldWarning(str(problem)), stacklevel=2)
        return None
    if found.place != place:
        sentence = f"{path}: it is not used: {found.foreign()}. {_HINT}"
        warnings.warn(ConvfoldWarning(sentence), stacklevel=2)
        return None
    return found


def timed(report: CostReport, model: nn.Module | None = None) -> CostReport:
    """The report with predicted seconds in every row. Raises InvalidArgument where this machine was not measured."""
    seconds = layer_seconds(report, model)
    if seconds is None:
        raise InvalidArgument(
            "nothing is known of this machine's speed",
            expected="a measurement in this precision, with as many threads",
            hint="convfold bench device makes it, once.",
        )
    rows = tuple(replace(row, seconds=value) for row, value in zip(report.rows, seconds, strict=True))
    return replace(report, rows=rows)


def layer_seconds(report: CostReport, model: nn.Module | None = None) -> tuple[float, ...] | None:
    """Predicted seconds for each of ``report.rows``; None where `convfold bench device` has not measured this machine.

    `model` is the one that was counted: it tells device and precision, which are CPU and float32 without it, and what
    shapes alone do not (see `Device.latency`).
    """
    tensor = torch.empty(0) if model is None else next(model.parameters(), torch.empty(0))
    on = torch.device("cpu") if tensor.is_meta else tensor.device
    device = stored(on, tensor.dtype)
    return None if device is None else device.latency(report, model)
