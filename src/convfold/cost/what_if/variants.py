"""One convolution beside all the forms that it might have: the table of ``convfold cost conv``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from convfold.cost.forms import Spec, Variant, variant
from convfold.cost.forms.steps import term, total
from convfold.cost.forms.variant import letters
from convfold.cost.tables.text import aligned
from convfold.cost.tables.units import human, human_bytes, sizes
from convfold.errors import InvalidArgument
from convfold.geometry.closed import Layer
from convfold.geometry.groups import legal_groups

__all__ = ["LayerTable", "VariantRow", "layer_table", "usual_forms"]

_LETTERS = "C, N channels in and out; K taps; I, S positions in and out; g groups of the convolution"


@dataclass(frozen=True)
class VariantRow:
    """One form of the layer, with its bytes: `activation_bytes` of all that its operators write, `traffic_bytes` of
    what they read (weights too) and write. `macs_ratio` is over the convolution."""

    variant: Variant
    macs_ratio: Fraction
    item: int

    @property
    def flops(self) -> int:
        """Two for each multiply-accumulate, and what activations take."""
        return 2 * self.variant.macs + total(self.variant.steps, "rest")

    @property
    def activation_bytes(self) -> int:
        return self.item * total(self.variant.steps, "written")

    @property
    def traffic_bytes(self) -> int:
        steps = self.variant.steps
        return self.item * (total(steps, "read") + total(steps, "weights") + total(steps, "written"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        form = self.variant
        return {
            "form": form.name,
            "output": [form.out_channels, *form.out_size],
            "macs": form.macs,
            "flops": self.flops,
            "weights": form.weights,
            "activation_bytes": self.activation_bytes,
            "traffic_bytes": self.traffic_bytes,
            "intensity": self.flops / self.traffic_bytes,
            "receptive_field": list(form.reach),
            "degrees_of_freedom": form.degrees,
            "kernel_rank": form.rank,
            "ratio": {"letters": form.letters, "numbers": form.numbers, "value": float(self.macs_ratio)},
            "steps": [{"name": step.name, "macs": step.macs, "weights": step.weights} for step in form.steps],
        }


@dataclass(frozen=True)
class LayerTable:
    """A convolution and its forms; `refused` says which forms it cannot have, and why. Print it."""

    layer: Layer
    rows: tuple[VariantRow, ...]
    refused: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        layer = self.layer
        return {
            "input": [layer.batch, layer.in_channels, *layer.size],
            "output": [layer.batch, layer.out_channels, *layer.out_size],
            "window": [dict(axis.__dict__) for axis in layer.window],
            "groups": layer.groups,
            "rows": [row.to_dict() for row in self.rows],
            "refused": [{"form": form, "reason": reason} for form, reason in self.refused],
        }

    def __str__(self) -> str:
        first = [("form", "output", "MACs", "weights", "MACs / conv."), *map(_worked, self.rows)]
        second = [
            ("form", "FLOPs", "activ.", "traffic", "FLOP/B", "recept.", "freedom", "rank"),
            *map(_moved, self.rows),
        ]
        closed = [_closed(row) for row in self.rows if row.variant.name != "convolution"]
        parts = [self._headline(), aligned(first, 1), aligned(second, 1)]
        if closed:
            parts.append("Closed forms, MACs over the convolution's\n" + "\n".join(closed) + f"\n  {_LETTERS}")
        if self.refused:
            said = [textwrap.fill(f"{form}: {reason}", 98, subsequent_indent="    ") for form, reason in self.refused]
            parts.append("Not possible\n" + "\n".join(f"  {line}" for line in said))
        return "\n\n".join(parts)

    def _headline(self) -> str:
        layer, window = self.layer, self.layer.window
        kernel = sizes(tuple(axis.kernel for axis in window))
        stride = sizes(tuple(axis.stride for axis in window))
        padding = "x".join(str(a.lo) if a.lo == a.hi else f"{a.lo}+{a.hi}" for a in window)
        text = f"{sizes((*layer.size, layer.in_channels))} -> {sizes((*layer.out_size, layer.out_channels))}"
        more = [f"kernel {kernel}", f"stride {stride}", f"padding {padding}"]
        dilations = tuple(axis.dilation for axis in window)
        more += [f"dilation {sizes(dilations)}"] if set(dilations) != {1} else []
        more += [f"groups {layer.groups}"] if layer.groups > 1 else []
        more += [f"batch {layer.batch}"] if layer.batch > 1 else []
        return f"{text}, {', '.join(more)}"


def _worked(row: VariantRow) -> tuple[str, ...]:
    form = row.variant
    output = sizes((*form.out_size, form.out_channels))
    return form.name, output, f"{form.macs:,}", f"{form.weights:,}", f"{float(row.macs_ratio):.4g}"


def _moved(row: VariantRow) -> tuple[str, ...]:
    form = row.variant
    figures = (human(row.flops), human_bytes(row.activation_bytes), human_bytes(row.traffic_bytes))
    rank = "-" if form.rank is None else f"{form.rank:,}"
    intensity = f"{row.flops / row.traffic_bytes:.3g}"
    return form.name, *figures, intensity, sizes(form.reach), human(form.degrees), rank


def _closed(row: VariantRow) -> str:
    form = row.variant
    value = f"{float(row.macs_ratio):.4g}"
    numbers = "" if form.numbers == value else f" = {form.numbers}"
    text = f"{form.name}: {form.letters}{numbers} = {value}"
    worked = [step for step in form.steps if step.macs]
    if len(worked) > 1:
        text += f"; {' + '.join(f'{step.name} {step.macs:,}' for step in worked)} = {form.macs:,} MACs"
    return textwrap.fill(text, 98, initial_indent="  ", subsequent_indent="      ")


def usual_forms(layer: Layer, groups: Sequence[int] = (), multipliers: Sequence[int] = ()) -> list[Spec]:
    """The forms that a table shows unless it is told which: with every legal number of groups, or those that are named.

    Where no number above 1 is legal, as many groups as channels in are tried, so that it is said.
    """
    legal = [g for g in legal_groups(layer.in_channels, layer.out_channels) if g > 1]
    wanted = list(groups) or legal or ([layer.in_channels] if layer.in_channels > 1 else [])
    shuffles = [g for g in wanted if g in legal and g < min(layer.in_channels, layer.out_channels)]
    rank = min(layer.out_channels // layer.groups, layer.taps * layer.in_channels // layer.groups) // 2
    many = list(multipliers) or [1]
    return [
        Spec("fully-connected"),
        Spec("convolution"),
        *[Spec("grouped", (g,)) for g in wanted],
        *[Spec("depthwise", (m,)) for m in many],
        Spec("pointwise"),
        *[Spec("separable", (m,)) for m in many],
        Spec("flattened"),
        *([Spec("spatial")] if len(layer.size) > 1 else []),
        *([Spec("rank", (rank,))] if rank else []),
        Spec("bottleneck"),
        *[Spec("shuffle", (g,)) for g in shuffles[:2]],
        Spec("gated"),
        Spec("transposed"),
        Spec("full-map"),
        Spec("self-attention"),
        Spec("restricted-attention"),
    ]


def layer_table(layer: Layer, forms: Sequence[Spec], item: int = 4) -> LayerTable:
    """`layer` in each of `forms`; numbers take `item` bytes. What cannot be is listed with the reason.

    A number of groups that divides the channels in but not those out is shown for the nearest numbers that it divides.
    """
    rows, refused = list[VariantRow](), list[tuple[str, str]]()
    whole = variant(layer, Spec("convolution")).macs
    for spec in forms:
        try:
            found = [variant(layer, spec)]
        except InvalidArgument as error:
            near = _nearest(layer, spec)
            wider = (
                f" With {spec.numbers[0]} groups it could have {_listed(near)} channels out: see above." if near else ""
            )
            refused.append((str(spec), f"{error}{wider}"))
            found = [_widened(layer, spec, channels) for channels in near]
        rows += [VariantRow(one, Fraction(one.macs, whole), item) for one in found]
    return LayerTable(layer, tuple(rows), tuple(refused))


def _nearest(layer: Layer, spec: Spec) -> list[int]:
    """Channels out next to the layer's that the groups asked for divide, where they divide those in."""
    if spec.name != "grouped" or layer.in_channels % spec.numbers[0]:
        return []
    below = layer.out_channels // spec.numbers[0] * spec.numbers[0]
    return [channels for channels in (below, below + spec.numbers[0]) if channels]


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def _widened(layer: Layer, spec: Spec, channels: int) -> Variant:
    found = variant(replace(layer, out_channels=channels, groups=1), spec)
    of = letters(layer)
    ratio = term([("N'", channels), of["g"]], [of["N"], ("h", spec.numbers[0])])
    return replace(found, name=f"{spec}, {channels} out", terms=(ratio,))
