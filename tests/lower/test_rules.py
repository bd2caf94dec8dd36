"""Every rule on random layers: equal to 1e-12 in float64, and nothing left that breaks it."""

import random

import pytest

from convfold.transform.lower import (
    Channels,
    Dilation,
    Grouping,
    MaxKernel,
    Padding,
    Pointwise,
    Rule,
    Square,
    Target,
    Transposed,
)
from convfold.transform.lower.layer import seen_of
from support.lowering import convolution, hold, transposed

COUNT = 200
# What is drawn, and by which probability it is a transposed convolution.
CASES: dict[str, tuple[tuple[Rule, ...], float, dict[str, object]]] = {
    "pointwise": ((Pointwise(),), 0.0, {"most": 1}),
    "pointwise, transposed": ((Pointwise(),), 1.0, {"one": True}),
    "dense": ((Grouping(),), 0.3, {}),
    "depthwise alone": ((Grouping(depthwise=True),), 0.3, {}),
    "groups of three": ((Grouping(width=3),), 0.3, {}),
    "space to batch": ((Dilation(),), 0.1, {}),
    "zeros in the kernel": ((Dilation(by="zeros"),), 0.3, {}),
    "sub-pixel": ((Transposed(),), 1.0, {}),
    "zeros between": ((Transposed(by="zeros"),), 1.0, {}),
    "tiles of two": ((MaxKernel(2),), 0.2, {}),
    "tiles of three": ((MaxKernel(3),), 0.2, {"large": True}),
    "square": ((Square(),), 0.3, {}),
    "channels of four": ((Channels(4),), 0.3, {}),
    "channels of six, inputs": ((Channels(6, outputs=False),), 0.3, {}),
    "channels of six, outputs": ((Channels(6, inputs=False),), 0.3, {}),
    "no padding": ((Padding("any"),), 0.0, {}),
    "symmetric padding": ((Padding(),), 0.0, {}),
    "all at once": (
        (Transposed(), Dilation(), MaxKernel(3), Square(), Pointwise(), Grouping(width=4), Channels(4), Padding("any")),
        0.3,
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_random_layers(case: str) -> None:
    rules, share, fixed = CASES[case]
    target, draw, done = Target(case, rules), random.Random(case), 0
    while done < COUNT:
        options = {k: v for k, v in fixed.items() if k not in ("one", "large")}
        if draw.random() < share:
            dims = draw.choice((1, 2, 3))
            layer = transposed(draw, dims=dims, **({"kernel_size": (1,) * dims} if "one" in fixed else {}))
        else:
            if "large" in fixed:
                dims = draw.choice((1, 2))
                options |= {"dims": dims, "kernel_size": tuple(draw.randrange(2, 12) for _ in range(dims))}
            layer = convolution(draw, **options)
        if target.broken(seen_of(layer, [])) is not None:
            hold(layer, target, draw)
            done += 1
