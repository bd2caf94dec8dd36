"""Forms that are no chain of convolutions of the same map: fully connected, transposed, gated, attention."""

from __future__ import annotations

from fractions import Fraction
from math import prod

from convfold.cost.forms.steps import Step, Term, conv_step, term
from convfold.cost.forms.variant import Variant, letters, made
from convfold.errors import InvalidArgument
from convfold.geometry import point, transposed_size
from convfold.geometry.closed import Layer, convolution, full_map, fully_connected, transposed
from convfold.geometry.window import Axis

__all__ = [
    "attention_form",
    "full_map_form",
    "fully_connected_form",
    "gated_form",
    "restricted_form",
    "transposed_form",
]

# FLOPs for each element, as `convfold.cost.counting.flops` has them; other elementwise operators have one.
_SOFTMAX = 5


def fully_connected_form(layer: Layer) -> Variant:
    """Every element in to every element out."""
    found, c, n = fully_connected(layer), layer.in_channels, layer.out_channels
    of = letters(layer)
    terms = [term([of["g"], ("I", prod(layer.size))], [of["K"]])]
    step = Step("linear", found.macs, found.weights, 0, c * layer.read, n * layer.written)
    rank = min(c * prod(layer.size), n * prod(layer.out_size))
    return made("fully-connected", layer, (step,), terms, found.weights, rank, reach=layer.size)


def full_map_form(layer: Layer) -> Variant:
    """A kernel as large as the map."""
    found, c, n = full_map(layer), layer.in_channels, layer.out_channels
    of = letters(layer)
    terms = [term([of["g"], ("I", prod(layer.size))], [of["K"], ("S", prod(layer.out_size))])]
    step = Step("full-map convolution", found.macs, found.weights, 0, c * layer.read, n * layer.batch)
    rank, ones = min(n, c * prod(layer.size)), (1,) * len(layer.size)
    return made("full-map", layer, (step,), terms, found.weights, rank, size=ones, reach=layer.size)


def transposed_form(layer: Layer) -> Variant:
    """The transposed convolution with this window: what is read and what is written change places."""
    size = tuple(transposed_size(axis, n) for axis, n in zip(layer.window, layer.size, strict=True))
    if min(size) < 1:
        raise InvalidArgument("the transposed convolution writes nothing", got="x".join(map(str, size)))
    found, c, n = transposed(layer), layer.in_channels, layer.out_channels
    step = Step("transposed", found.macs, found.weights, 0, c * layer.read, n * layer.batch * prod(size))
    terms = [term([], [], Fraction(layer.read, layer.written), "(I/S)")]
    rank = layer.groups * min(c // layer.groups, layer.taps * n // layer.groups)
    reach = tuple(map(_met, layer.window))
    return made("transposed", layer, (step,), terms, found.weights, rank, size=size, reach=reach)


def _met(axis: Axis) -> int:
    """Positions between the first and the last that one output of a transposed convolution reads, the most of any."""
    offsets = [axis.dilation * tap for tap in range(axis.kernel)]
    phases = [[o for o in offsets if o % axis.stride == phase] for phase in range(axis.stride)]
    return max((max(p) - min(p)) // axis.stride + 1 for p in phases if p)


def gated_form(layer: Layer) -> Variant:
    """Features times the sigmoid of gates, each by a convolution of its own (arXiv:1612.08083, 1806.03589)."""
    found, outputs = convolution(layer), layer.out_channels * layer.written
    steps = (
        conv_step(layer, "features"),
        conv_step(layer, "gates"),
        Step("sigmoid", 0, 0, outputs, outputs, outputs),
        Step("product", 0, 0, outputs, 2 * outputs, outputs),
    )
    return made("gated", layer, steps, [term([("2", 2)], [])], 2 * found.weights, None)


def attention_form(layer: Layer) -> Variant:
    """One head over the whole map; queries where the convolution would write."""
    n, met = layer.out_channels, prod(layer.size)
    of = letters(layer)
    terms = [*_projections(layer), term([("2", 2), of["g"], ("I", met)], [of["K"], of["C"]])]
    steps = (*_asked(layer), *_scored(layer, met, n * layer.read))
    return made("self-attention", layer, steps, terms, _degrees(layer), None, reach=layer.size)


def restricted_form(layer: Layer) -> Variant:
    """One head over the window of the convolution alone; keys and values are gathered window by window."""
    n, met = layer.out_channels, layer.taps
    of = letters(layer)
    terms = [*_projections(layer), term([("2", 2), of["g"]], [of["C"]])]
    seen = n * layer.written * met
    padded = [size + axis.lo + axis.hi for size, axis in zip(layer.size, layer.window, strict=True)]
    widened = n * layer.batch * prod(padded)
    gather = (
        *([Step("pad", 0, 0, 0, n * layer.read, widened)] if widened != n * layer.read else []),
        Step("gather", 0, 0, 0, seen, seen),
    )
    steps = (*_asked(layer), *gather, *gather, *_scored(layer, met, seen))
    return made("restricted-attention", layer, steps, terms, _degrees(layer), None)


def _projections(layer: Layer) -> list[Term]:
    of = letters(layer)
    return [
        term([of["g"]], [of["K"]]),
        term([("2", 2), of["g"]], [of["K"]], Fraction(layer.read, layer.written), "(I/S)"),
    ]


def _asked(layer: Layer) -> tuple[Step, ...]:
    """Queries at the centres of the windows, scaled; keys and values everywhere."""
    c, n = layer.in_channels, layer.out_channels
    dense = Layer(c, n, point(len(layer.size)), layer.size, 1, layer.batch)
    asked = Step("queries", c * n * layer.written, c * n, 0, c * layer.written, n * layer.written)
    scale = Step("scale", 0, 0, n * layer.written, n * layer.written, n * layer.written)
    return (asked, scale, conv_step(dense, "keys"), conv_step(dense, "values"))


def _scored(layer: Layer, met: int, seen: int) -> tuple[Step, ...]:
    """Scores of each query with what it meets, their softmax, and the sum of values weighted by it."""
    asked, scores = layer.out_channels * layer.written, layer.written * met
    return (
        Step("scores", asked * met, 0, 0, asked + seen, scores),
        Step("softmax", 0, 0, _SOFTMAX * scores, scores, scores),
        Step("weighted sum", asked * met, 0, 0, scores + seen, asked),
    )


def _degrees(layer: Layer) -> int:
    """Queries and keys matter through their product alone, a matrix of C x C of rank at most N."""
    c, n = layer.in_channels, layer.out_channels
    inner = min(c, n)
    return inner * (2 * c - inner) + c * n
