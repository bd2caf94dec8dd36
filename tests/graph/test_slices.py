"""Some rows of a map: the same rows of its kernel, to the last bit that rounding leaves."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import torch

from convfold.errors import NotFoldable
from convfold.geometry import Axis
from convfold.graph.derived import derive, derived_from
from convfold.graph.joins import columns, plus, rows
from convfold.graph.maps import IDENTITY, Given, Map, after, select
from convfold.graph.slices import rows_of
from convfold.graph.weights import Weights

WINDOW = (Axis(3, 1, 1, 1, 1), Axis(3, 1, 1, 1, 1))
POINT = (Axis(), Axis())


class Tensors:
    """Random tensors by name, and what is derived of them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.held = {
            "three": draw(6, 5, 3, 3), "one": draw(6, 5, 1, 1), "after": draw(6, 6, 1, 1), "scale": draw(6),
            "matrix": draw(5, 6), "back": draw(5, 6, 3, 3), "more": draw(4, 5, 3, 3), "square": draw(5, 5, 1, 1),
        }  # fmt: skip

    def __call__(self, key: Hashable, dtype: torch.dtype) -> torch.Tensor:
        if key in self.held:
            return self.held[key]
        assert derived_from(key)
        return derive(key, lambda inner: self(inner, dtype), dtype)


def conv(name: str, rows_: int, cols: int, window: tuple[Axis, ...] = POINT, kind: Any = "conv") -> Map:
    return Map(kind, rows_, cols, 1, window, 1, Given(name))


THREE, ONE, AFTER = conv("three", 6, 5, WINDOW), conv("one", 6, 5), conv("after", 6, 6)
SCALE = Map("diagonal", 6, 6, 1, recipe=Given("scale"))
INNER = Map("diagonal", 5, 5, 1, recipe=Given("scale five"))
CASES = {
    "a kernel": THREE,
    "a chain": after(THREE, AFTER),
    "a scale behind": after(THREE, SCALE),
    "a scale behind a chain": after(after(THREE, AFTER), SCALE),
    "a number behind": after(THREE, Map("scalar", factor=3.0)),
    "a sum": plus((THREE, ONE)),
    "a sum with the identity": plus((AFTER, conv("wide", 6, 6, WINDOW), IDENTITY)),
    "a selection behind": after(THREE, select((5, 0, 3, 3, 1), 6, 1)),
    "a selection before": after(select((4, 3, 2, 1, 0), 5, 1), THREE),
    "side by side": columns((THREE, conv("wide", 6, 6, WINDOW)), (5, 6)),
    "one under the other": rows((THREE, conv("more", 4, 5, WINDOW))),
    "a matrix": Map("conv", 6, 5, 1, (), 1, Given(("times", ("transposed", "matrix"), 0.5))),
    "transposed": conv("back", 6, 5, WINDOW, "transposed"),
}


def evaluated(m: Map) -> torch.Tensor:
    tensors = Tensors()
    generator = torch.Generator().manual_seed(1)
    tensors.held["wide"] = torch.randn(6, 6, 3, 3, generator=generator, dtype=torch.float64)
    found: Any = Weights(tensors).conv(m, len(m.window), m.cols)
    return found.weight.transpose(0, 1) if m.kind == "transposed" else found.weight  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("span", [(0, 1), (1, 4), (4, 5)])
def test_rows_are_those_of_the_whole(case: str, span: tuple[int, int]) -> None:
    m = CASES[case]
    torch.testing.assert_close(evaluated(rows_of(m, *span)), evaluated(m)[slice(*span)], rtol=1e-15, atol=1e-15)


def test_rows_that_cross_from_one_kernel_to_the_next() -> None:
    m = CASES["one under the other"]
    assert torch.equal(evaluated(rows_of(m, 3, 9)), evaluated(m)[3:9])


@pytest.mark.parametrize(
    "m",
    [
        pytest.param(Map("conv", 6, 6, 1, POINT, 2, Given("grouped")), id="groups"),
        pytest.param(plus((AFTER, SCALE)), id="a sum with a scale"),
        pytest.param(IDENTITY, id="identity"),
    ],
)
def test_maps_whose_rows_are_not_told_apart_are_refused(m: Map) -> None:
    with pytest.raises(NotFoldable, match=r"its rows|a scale is no kernel"):
        rows_of(m, 0, 2)
