"""Forms that are one convolution."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from convfold.cost.forms.steps import conv_step, term
from convfold.cost.forms.variant import Variant, kernel_rank, letters, made
from convfold.errors import InvalidArgument
from convfold.geometry.closed import Layer, convolution, full_rank
from convfold.geometry.groups import check_groups

__all__ = ["convolution_form", "depthwise_form", "grouped_form", "pointwise_form"]


def convolution_form(layer: Layer) -> Variant:
    return made(
        "convolution", layer, (conv_step(layer),), [term([], [])], convolution(layer).weights, kernel_rank(layer)
    )


def grouped_form(layer: Layer, groups: int) -> Variant:
    check_groups(layer.in_channels, layer.out_channels, groups)
    one, of = replace(layer, groups=groups), letters(layer)
    terms = [term([of["g"]], [("h", groups)])]
    return made(f"grouped:{groups}", layer, (conv_step(one),), terms, convolution(one).weights, kernel_rank(one))


def depthwise_form(layer: Layer, multiplier: int = 0) -> Variant:
    c, n, of = layer.in_channels, layer.out_channels, letters(layer)
    if not multiplier:
        if n % c:
            raise InvalidArgument(
                "depthwise gives each channel in as many channels out", got=f"{c} -> {n} channels",
                expected=f"a multiple of {c}", hint=f"The nearest are {_around(n, c)}.",
            )  # fmt: skip
        multiplier = n // c
    one = replace(layer, out_channels=c * multiplier, groups=c)
    terms = [term([("m", multiplier), of["g"]], [of["N"]])]
    name = f"depthwise:{multiplier}" if multiplier > 1 else "depthwise"
    step = conv_step(one)
    return made(name, layer, (step,), terms, step.weights, c * full_rank(one), channels=one.out_channels)


def _around(number: int, step: int) -> str:
    below = number // step * step
    return f"{below} and {below + step}" if below else str(step)


def pointwise_form(layer: Layer) -> Variant:
    one, of = layer.centres, letters(layer)
    terms = [term([], [of["K"]], Fraction(one.written, layer.written), "(S'/S)")]
    step, reach = conv_step(one), (1,) * len(layer.size)
    return made("pointwise", layer, (step,), terms, step.weights, kernel_rank(one), size=one.out_size, reach=reach)
