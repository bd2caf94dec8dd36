"""Machines of which everything is known: laws made up, and timings that follow them."""

from __future__ import annotations

import random

import torch

from convfold.cost.device.cases import cases
from convfold.cost.device.law import ALL, COUNTED, Law, Spread
from convfold.cost.device.measure import Timed
from convfold.cost.device.place import here
from convfold.cost.device.roofs import Roofs
from convfold.cost.device.work import KINDS
from convfold.cost.roofline import Device

# Seconds of a call, of a byte and of a multiply-accumulate: another law for each kind.
LAWS = {
    kind: Law(1e-6 * (place + 1), 1e-11 * (place + 2), 1e-12 * (place + 3) * (kind not in ("norm", "elementwise")))
    for place, kind in enumerate(KINDS)
}
ROOFS = Roofs(peak=1e11, bandwidth=2e10, cached=8e10, call=1e-6, seen={"matmul 8": 1e11, "copy memory": 2e10})


def timings(count: int, *, held_out: bool, noise: float = 0.0, seed: int = 0) -> list[Timed]:
    """Cases with the seconds that LAWS give, each off by a random factor of up to ``1 + noise`` either way."""
    draw = random.Random(seed)
    factors = ((1 + draw.random() * noise) ** draw.choice((-1, 1)) for _ in iter(int, 1))
    chosen = cases(count, held_out=held_out)
    return [Timed(c, LAWS[c.work.kind].seconds(c.work) * f, held_out) for c, f in zip(chosen, factors, strict=False)]


def machine(laws: dict[str, Law] | None = None, most: float = 1.5) -> Device:
    """This machine, of these laws, on whose predictions nine in ten shapes are off by less than `most`."""
    errors = {kind: Spread(1.05, 1.1, 1.3, most, 20) for kind in (*KINDS, COUNTED, ALL)}
    return Device(here(torch.device("cpu")), "time.process_time", ROOFS, laws or LAWS, errors)
