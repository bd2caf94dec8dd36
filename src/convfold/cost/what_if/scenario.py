"""What a model would cost if its convolutions had another form: each of them in closed form, and the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from convfold.cost.count import cost
from convfold.cost.forms import Spec, Variant, read_spec, variant
from convfold.cost.forms.steps import total
from convfold.cost.report import CostReport, Row
from convfold.cost.what_if.places import PlacedLayer, placed_layers
from convfold.errors import InvalidArgument

__all__ = ["Changed", "Figures", "Kept", "Scenario", "scenario", "split_spec", "what_if"]


class Figures(NamedTuple):
    """What a form changes; the peak is not among it, which only a count of a model that was built can tell."""

    macs: int
    flops: int
    params: int
    weight_bytes: int
    activation_bytes: int
    traffic_bytes: int

    def plus(self, other: Figures, sign: int = 1) -> Figures:
        """Both added, or the other one taken away."""
        return Figures(*(a + sign * b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Changed:
    """A layer that can have the form: its cost now and then, and the ratio of multiply-accumulates in closed form."""

    path: str
    type: str
    now: Figures
    then: Figures
    letters: str
    numbers: str
    ratio: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        closed = {"letters": self.letters, "numbers": self.numbers, "value": self.ratio}
        return {"path": self.path, "type": self.type, "now": self.now._asdict(), "then": self.then._asdict()} | {
            "ratio": closed
        }


@dataclass(frozen=True)
class Kept:
    """A layer that cannot have the form, and why."""

    path: str
    type: str
    reason: str


@dataclass(frozen=True)
class Scenario:
    """A model whose layers have another form where they can: the totals now and then, and layer by layer."""

    spec: str
    glob: str
    now: Figures
    then: Figures
    changed: tuple[Changed, ...]
    kept: tuple[Kept, ...]

    @property
    def name(self) -> str:
        """As it was asked for."""
        return f"{self.spec}@{self.glob}" if self.glob else self.spec

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "spec": self.spec,
            "layers": self.glob or "*",
            "now": self.now._asdict(),
            "then": self.then._asdict(),
            "changed": [one.to_dict() for one in self.changed],
            "kept": [dict(one.__dict__) for one in self.kept],
        }


def what_if(model: nn.Module, inputs: object, form: str) -> Scenario:
    """What `model` would cost on `inputs` if its convolutions and Linears had `form`, as "separable" or "rank:8".

    ``form@glob`` changes the layers alone whose path the glob matches. Nothing is built: figures are in closed form,
    and those of the layers now are counted. Biases stay, behind the last operator of the form. Raises UnknownName for
    an unknown form, InvalidArgument for wrong numbers and for a glob that matches no layer, and what `cost` raises.
    """
    spec, glob = split_spec(form)
    report = cost(model, inputs)
    return scenario(report, placed_layers(model, report), spec, glob)


def split_spec(text: str, where: str = "") -> tuple[Spec, str]:
    """``form@glob`` in its two parts; the glob may be missing. Raises as `read_spec`."""
    form, _, glob = text.partition("@")
    return read_spec(form, where), glob


def scenario(report: CostReport, layers: Sequence[PlacedLayer], spec: Spec, glob: str = "") -> Scenario:
    """The same of a count that was taken already. Raises InvalidArgument where no layer's path matches the glob."""
    chosen = [layer for layer in layers if not glob or fnmatchcase(layer.row.path, glob)]
    if glob and not chosen:
        paths = [layer.row.path for layer in layers[:3]]
        raise InvalidArgument(
            "no convolution or Linear is called so", where=str(spec), got=repr(glob),
            expected=f"a glob over paths as {', '.join(paths)}",
        )  # fmt: skip
    changed, kept = list[Changed](), list[Kept]()
    now = _totals(report)
    then = now
    for place in chosen:
        try:
            one = _changed(place, spec)
        except InvalidArgument as error:
            kept.append(Kept(place.row.path, place.row.type, str(error)))
            continue
        changed.append(one)
        then = then.plus(one.now, -1).plus(one.then)
    return Scenario(str(spec), glob, now, then, tuple(changed), tuple(kept))


def _totals(counted: CostReport | Row) -> Figures:
    return Figures(*(getattr(counted, name) for name in Figures._fields))


def _changed(place: PlacedLayer, spec: Spec) -> Changed:
    layer, row = place.layer, place.row
    if layer is None:
        raise InvalidArgument(place.reason)
    form = variant(layer, spec)
    if (form.out_channels, form.out_size) != (layer.out_channels, layer.out_size):
        raise InvalidArgument(
            f"{form.name} gives another shape", got=f"{form.out_channels} channels of {form.out_size}",
            expected=f"{layer.out_channels} of {layer.out_size}",
        )  # fmt: skip
    now = _totals(row)
    return Changed(row.path, row.type, now, _built(place, form, now), form.letters, form.numbers, float(form.ratio))


def _built(place: PlacedLayer, form: Variant, now: Figures) -> Figures:
    layer, item = place.layer, place.item
    assert layer is not None
    added = layer.out_channels * layer.written if place.bias else 0
    biases = layer.out_channels if place.bias else 0
    flops = 2 * form.macs + total(form.steps, "rest") + added
    moved = total(form.steps, "read") + total(form.steps, "written") + form.weights + biases
    # Weights that another module holds are counted there.
    params = form.weights + biases if now.params else 0
    written = total(form.steps, "written")
    once = (form.macs, flops, params, params * item, written * item, moved * item)
    return Figures(*(figure if at in (2, 3) else figure * place.calls for at, figure in enumerate(once)))
