"""Forms that are chains of convolutions without anything between: each folds to one convolution again."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from convfold.cost.forms.steps import Sized, Step, Term, chain, term, total
from convfold.cost.forms.variant import Variant, bounded, kernel_rank, letters, made, read_over_written, spread
from convfold.errors import InvalidArgument
from convfold.geometry import point
from convfold.geometry.closed import Layer, axis_layers, full_rank
from convfold.geometry.groups import check_groups

__all__ = [
    "bottleneck_form",
    "cp_form",
    "flattened_form",
    "low_rank_form",
    "separable_form",
    "shuffle_form",
    "spatial_form",
    "tucker_form",
]


def separable_form(layer: Layer, multiplier: int = 1) -> Variant:
    spread(layer, "separable")
    c, n, g, k, of = layer.in_channels, layer.out_channels, layer.groups, layer.taps, letters(layer)
    deep = replace(layer, out_channels=c * multiplier, groups=c)
    mix = Layer(c * multiplier, n, point(len(layer.size)), layer.out_size, g)
    m = ("m", multiplier)
    terms = [term([m, of["g"]], [of["N"]]), term([m], [of["K"]])]
    free = min(multiplier, k, n // g)
    name = f"separable:{multiplier}" if multiplier > 1 else "separable"
    steps = chain(layer, [(deep, "depthwise"), (mix, "pointwise")])
    return made(name, layer, steps, terms, c * free * (k + n // g - free), g * min(n // g, min(multiplier, k) * c // g))


def _along(
    layer: Layer, channels: int, above: list[Sized], below: list[Sized]
) -> tuple[list[tuple[Layer, str]], list[Term]]:
    """Depthwise along each axis of a chain that keeps `channels`, and each one's share."""
    parts, terms = list[tuple[Layer, str]](), list[Term]()
    for index, one in enumerate(axis_layers(layer, channels)):
        at = Fraction(one.written, layer.written)
        parts.append((one, ""))
        terms.append(term([(f"k{index + 1}", one.taps), *above], below, at, f"(S{index + 1}/S)"))
    return parts, terms


def flattened_form(layer: Layer) -> Variant:
    spread(layer, "flattened")
    c, n, g, of = layer.in_channels, layer.out_channels, layer.groups, letters(layer)
    across = Layer(c, n, point(len(layer.size)), layer.size, g)
    along, terms = _along(layer, n, [of["g"]], [of["C"], of["K"]])
    terms.insert(0, term([], [of["K"]], *read_over_written(layer)))
    steps = chain(layer, [(across, "across channels"), *along])
    degrees = n * (c // g + sum(axis.kernel - 1 for axis in layer.window))
    return made("flattened", layer, steps, terms, degrees, kernel_rank(layer))


def spatial_form(layer: Layer, rank: int = 0) -> Variant:
    """Along the first axis to `rank` channels a group, then along the others; by default the least that is exact."""
    kernels = [axis.kernel for axis in layer.window]
    if sum(kernel > 1 for kernel in kernels) < 2:
        got = f"a kernel of {'x'.join(map(str, kernels))}"
        raise InvalidArgument("spatial is a form of kernels that are wider than 1 along two axes", got=got)
    c, n, g, of = layer.in_channels, layer.out_channels, layer.groups, letters(layer)
    full, last = min(c * kernels[0], n * kernels[-1]) // g, len(kernels) - 1
    name = f"spatial:{rank}" if rank else "spatial"
    rank = rank or min(full, n // g)
    bounded("the rank", rank, full)
    parts, terms, size, found = list[tuple[Layer, str]](), list[Term](), layer.size, c // g
    for index, axis in enumerate(layer.window):
        window = tuple(axis if i == index else one for i, one in enumerate(point(len(kernels))))
        reads, writes = (c if index == 0 else rank * g), (n if index == last else rank * g)
        one = Layer(reads, writes, window, size, g, layer.batch)
        inner = [("r", rank), of["g"]] * (1 + (0 < index < last))
        below = [of["K"], *([of["N"]] if index < last else []), *([of["C"]] if index > 0 else [])]
        above = [(f"k{index + 1}", axis.kernel), *inner]
        terms.append(term(above, below, Fraction(one.written, layer.written), f"(S{index + 1}/S)"))
        parts.append((one, ""))
        size, found = one.out_size, min(found * axis.kernel, writes // g)
    steps = chain(layer, parts)
    return made(name, layer, steps, terms, total(steps, "weights") - last * g * rank * rank, g * found)


def low_rank_form(layer: Layer, rank: int) -> Variant:
    c, n, g, k, of = layer.in_channels, layer.out_channels, layer.groups, layer.taps, letters(layer)
    bounded("the rank", rank, full_rank(layer))
    first = replace(layer, out_channels=rank * g)
    mix = Layer(rank * g, n, point(len(layer.size)), layer.out_size, g)
    r = ("r", rank)
    terms = [term([r, of["g"]], [of["N"]]), term([r, of["g"]], [of["K"], of["C"]])]
    degrees = rank * (c * k + n - rank * g)
    steps = chain(layer, [(first, ""), (mix, "1x1 back")])
    return made(f"rank:{rank}", layer, steps, terms, degrees, rank * g)


def tucker_form(layer: Layer, first: int, second: int) -> Variant:
    """1x1 to `first` channels a group, the kernel to `second`, 1x1."""
    spread(layer, "tucker")
    bounded("the first rank", first, layer.in_channels // layer.groups)
    bounded("the second rank", second, layer.out_channels // layer.groups)
    return _tucker(f"tucker:{first},{second}", layer, first, second, ("r", "s"))


def bottleneck_form(layer: Layer, reduction: int = 4) -> Variant:
    """1x1 to one part in `reduction` of the outputs, the kernel on those, 1x1 back."""
    spread(layer, "bottleneck")
    width = layer.out_channels // layer.groups // reduction
    if not width:
        raise InvalidArgument(
            "the bottleneck is closed", got=f"{layer.out_channels // layer.groups} channels over {reduction}",
            expected="at least one",
        )  # fmt: skip
    return _tucker(f"bottleneck:{reduction}", layer, width, width, ("w", "w"))


def _tucker(name: str, layer: Layer, first: int, second: int, called: tuple[str, str]) -> Variant:
    c, n, g, k, of = layer.in_channels, layer.out_channels, layer.groups, layer.taps, letters(layer)
    a, b = (called[0], first), (called[1], second)
    dims = len(layer.size)
    narrow = Layer(c, first * g, point(dims), layer.size, g)
    middle = replace(layer, in_channels=first * g, out_channels=second * g)
    wide = Layer(second * g, n, point(dims), layer.out_size, g)
    terms = [
        term([a, of["g"]], [of["K"], of["N"]], *read_over_written(layer)),
        term([a, b, of["g"], of["g"]], [of["C"], of["N"]]),
        term([b, of["g"]], [of["K"], of["C"]]),
    ]
    # What is wider than what it is multiplied with adds nothing.
    r = min(first, c // g)
    s = min(second, n // g, r * k)
    r = min(r, s * k)
    degrees = c * r + n * s + g * (k * r * s - r * r - s * s)
    return made(name, layer, chain(layer, [(narrow, "1x1"), (middle, ""), (wide, "1x1 back")]), terms, degrees, g * s)


def cp_form(layer: Layer, rank: int) -> Variant:
    """1x1 to `rank` channels a group, depthwise along each axis, 1x1."""
    spread(layer, "cp")
    c, n, g, k, of = layer.in_channels, layer.out_channels, layer.groups, layer.taps, letters(layer)
    # The largest that is ever needed: one summand for every pair of a tap and the smaller of both sides.
    bounded("the rank", rank, k * min(c, n) // g)
    r, dims = ("r", rank), len(layer.size)
    inner = rank * g
    along, terms = _along(layer, inner, [r, of["g"], of["g"]], [of["C"], of["N"], of["K"]])
    terms.insert(0, term([r, of["g"]], [of["K"], of["N"]], *read_over_written(layer)))
    terms.append(term([r, of["g"]], [of["K"], of["C"]]))
    narrow, wide = Layer(c, inner, point(dims), layer.size, g), Layer(inner, n, point(dims), layer.out_size, g)
    steps = chain(layer, [(narrow, "1x1"), *along, (wide, "1x1 back")])
    widths = [one.kernel - 1 for one in layer.window if one.kernel > 1]
    degrees = min(rank * (c + n - g + g * sum(widths)), c * n * k // g)
    return made(f"cp:{rank}", layer, steps, terms, degrees, g * min(rank, full_rank(layer)))


def shuffle_form(layer: Layer, groups: int) -> Variant:
    """Grouped 1x1, channel shuffle, depthwise, grouped 1x1 (ShuffleNet's unit)."""
    spread(layer, "shuffle")
    c, n, of = layer.in_channels, layer.out_channels, letters(layer)
    check_groups(c, n, groups)
    h, dims = ("h", groups), len(layer.size)
    before = Layer(c, n, point(dims), layer.size, groups)
    deep = replace(layer, in_channels=n, out_channels=n, groups=n)
    after = Layer(n, n, point(dims), layer.out_size, groups)
    terms = [
        term([of["g"]], [h, of["K"]], *read_over_written(layer)),
        term([of["g"]], [of["C"]]),
        term([of["N"], of["g"]], [h, of["K"], of["C"]]),
    ]
    first, *rest = chain(layer, [(before, "grouped 1x1"), (deep, "depthwise"), (after, "grouped 1x1")])
    moved = n * layer.read
    # One group, or groups of one channel, are in order already.
    mixed = [Step("shuffle", 0, 0, 0, moved, moved)] if 1 < groups < n else []
    steps = (first, *mixed, *rest)
    return made(f"shuffle:{groups}", layer, steps, terms, total(steps, "weights") - 2 * n, None)
