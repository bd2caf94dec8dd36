"""The forms by name: ``name``, ``name:number`` or ``name:number,number``, as "separable:2" or "tucker:4,8"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from convfold.cost.forms.chains import (
    bottleneck_form,
    cp_form,
    flattened_form,
    low_rank_form,
    separable_form,
    shuffle_form,
    spatial_form,
    tucker_form,
)
from convfold.cost.forms.single import convolution_form, depthwise_form, grouped_form, pointwise_form
from convfold.cost.forms.variant import Variant
from convfold.cost.forms.wide import (
    attention_form,
    full_map_form,
    fully_connected_form,
    gated_form,
    restricted_form,
    transposed_form,
)
from convfold.errors import InvalidArgument, UnknownName
from convfold.geometry.closed import Layer

__all__ = ["FORMS", "Form", "Spec", "read_spec", "variant"]


@dataclass(frozen=True)
class Form:
    """A kind of form: what builds it, and how its numbers are called; the first `required` must be given."""

    says: str
    build: Callable[..., Variant]
    numbers: tuple[str, ...] = ()
    required: int = 0


FORMS = {
    "convolution": Form("one kernel from all channels to all", convolution_form),
    "grouped": Form("in groups of channels", grouped_form, ("groups",), 1),
    "depthwise": Form("each channel alone", depthwise_form, ("multiplier",)),
    "pointwise": Form("the middle tap alone", pointwise_form),
    "separable": Form("depthwise, then 1x1", separable_form, ("multiplier",)),
    "flattened": Form("1x1, then depthwise along each axis", flattened_form),
    "spatial": Form("along one axis after the other, over all channels", spatial_form, ("rank",)),
    "rank": Form("to fewer channels, then 1x1: the SVD of the kernel", low_rank_form, ("rank",), 1),
    "svd": Form("the same as rank", low_rank_form, ("rank",), 1),
    "tucker": Form("1x1, the kernel between fewer channels, 1x1", tucker_form, ("rank in", "rank out"), 2),
    "cp": Form("1x1, depthwise along each axis, 1x1", cp_form, ("rank",), 1),
    "bottleneck": Form("1x1 to fewer channels, the kernel on those, 1x1", bottleneck_form, ("reduction",)),
    "shuffle": Form("grouped 1x1, channel shuffle, depthwise, grouped 1x1", shuffle_form, ("groups",), 1),
    "gated": Form("features times the sigmoid of gates", gated_form),
    "transposed": Form("its transposed, which reads what it writes", transposed_form),
    "full-map": Form("a kernel as large as the map", full_map_form),
    "fully-connected": Form("every element in to every element out", fully_connected_form),
    "self-attention": Form("one head over the whole map", attention_form),
    "restricted-attention": Form("one head over the window", restricted_form),
}
# Other names of the same.
_ALSO = {"pointwise-grouped": "shuffle", "low-rank": "rank", "fc": "fully-connected", "attention": "self-attention"}


@dataclass(frozen=True)
class Spec:
    """A form with its numbers, as it was asked for."""

    name: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}:{','.join(map(str, self.numbers))}" if self.numbers else self.name


def read_spec(text: str, where: str = "") -> Spec:
    """The form that `text` names. Raises UnknownName with near ones, InvalidArgument for wrong numbers."""
    name, _, rest = text.partition(":")
    name = _ALSO.get(name, name)
    if name not in FORMS:
        near = get_close_matches(name, [*FORMS, *_ALSO], 3, 0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else f"There are {', '.join(FORMS)}."
        raise UnknownName("unknown form", where=where, got=repr(text), hint=hint)
    form, parts = FORMS[name], rest.split(",") if rest else []
    numbers = tuple(int(part) for part in parts if part.isdecimal() and int(part))
    if len(numbers) != len(parts) or not form.required <= len(numbers) <= len(form.numbers):
        takes = f"{name}:{','.join(n.upper() for n in form.numbers)}" if form.numbers else f"{name} alone"
        hint = "" if form.required or not form.numbers else f"{name} alone chooses the number itself."
        raise InvalidArgument(
            "the numbers of the form are wrong", where=where, got=repr(text), expected=takes, hint=hint
        )
    return Spec(name, numbers)


def variant(layer: Layer, spec: Spec) -> Variant:
    """What `layer` would be in that form. Raises InvalidArgument where it cannot be, with the reason."""
    return FORMS[spec.name].build(layer, *spec.numbers)
