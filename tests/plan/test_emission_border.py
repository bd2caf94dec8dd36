"""Biases that fall off at the border: exact at the planned size and at every other, or a clear refusal."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.plan.emission.border_bias import BorderBias
from support.make import Make

SIZES = [(1, 1), (1, 5), (2, 3), (4, 4), (8, 6), (13, 2)]


def _response(weight: Tensor, bias: Tensor, pads: tuple[int, int]) -> object:
    def response(size: tuple[int, ...]) -> Tensor | None:
        before = [n - 2 * p + k - 1 for n, p, k in zip(size, pads, weight.shape[2:], strict=True)]
        if min(before) < 1:
            return None
        constant = bias.reshape(1, -1, 1, 1).expand(1, -1, *before)
        return F.conv2d(constant, weight, padding=pads)[0]

    return response


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 7)])
def test_every_size_gives_what_the_convolution_gives(kernel: tuple[int, int]) -> None:
    make = Make(0)
    weight, bias = make.tensor(3, 2, *kernel), make.tensor(2)
    pads = (kernel[0] // 2, kernel[1] // 2)
    module = BorderBias((6, 9), _response(weight, bias, pads), tuple((p, p) for p in pads))
    for size in [*SIZES, (6, 9)]:
        y = make.tensor(2, 3, *size)
        expected = y + F.conv2d(bias.reshape(1, -1, 1, 1).expand(1, -1, *size), weight, padding=pads)
        torch.testing.assert_close(module(y), expected, rtol=1e-12, atol=1e-12)


def test_a_size_that_was_not_planned_is_refused_where_a_stride_decides() -> None:
    module = BorderBias((4, 4), lambda size: torch.ones(2, *size), None, (8, 8))
    assert torch.equal(module(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 8, 8)), torch.ones(1, 2, 4, 4))
    with pytest.raises(RuntimeError, match=r"was folded for maps of \(8, 8\), got \(7, 7\)"):
        module(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 7, 7))
