"""decompose: convolutions replaced by rows of cheaper ones, each within an error that is told."""

from __future__ import annotations

from typing import Literal, overload

from torch import nn

from convfold.transform.decompose.asked import Asked, read_arguments
from convfold.transform.decompose.ranks import AnyRank
from convfold.transform.decompose.report import Report
from convfold.transform.decompose.run import run
from convfold.transform.layers import Where

__all__ = ["decompose"]


@overload
def decompose(
    model: nn.Module,
    method: str = ...,
    rank: AnyRank | None = ...,
    max_error: float | None = ...,
    target_macs: int | float | None = ...,
    data: object = ...,
    where: Where = ...,
    report: Literal[False] = ...,
    example_inputs: object = ...,
    *,
    total_error: float | None = ...,
    only_cheaper: bool | None = ...,
    inputs: str = ...,
) -> nn.Module: ...


@overload
def decompose(
    model: nn.Module,
    method: str = ...,
    rank: AnyRank | None = ...,
    max_error: float | None = ...,
    target_macs: int | float | None = ...,
    data: object = ...,
    where: Where = ...,
    *,
    report: Literal[True],
    example_inputs: object = ...,
    total_error: float | None = ...,
    only_cheaper: bool | None = ...,
    inputs: str = ...,
) -> tuple[nn.Module, Report]: ...


def decompose(
    model: nn.Module,
    method: str = "separable",
    rank: AnyRank | None = None,
    max_error: float | None = None,
    target_macs: int | float | None = None,
    data: object = None,
    where: Where = None,
    report: bool = False,
    example_inputs: object = None,
    *,
    total_error: float | None = None,
    only_cheaper: bool | None = None,
    inputs: str = "original",
) -> nn.Module | tuple[nn.Module, Report]:
    """A copy of `model` in which convolutions are rows of smaller ones: ``W ~ product of factors``.

    `method`: "separable" (depthwise with multiplier r, then pointwise), "spatial" (K x 1, then 1 x K), "svd" (k x k to
    r channels, then 1x1, or the 1x1 first; a Linear layer becomes two), "tucker" (1x1, k x k, 1x1) or "cp" (1x1, one
    depthwise convolution per axis, 1x1). Dimensions 1 to 3, groups, stride, dilation, padding, padding mode, bias,
    dtype, device, mode, hooks and what asks for gradients are kept. All but cp are exact at full rank.

    Exactly one of these says how far:

    * `rank`: an integer, a fraction of each layer's full rank, for tucker a pair (r_out, r_in), or a dict of these by
      layer (path or glob);
    * `max_error`: each layer at the least MACs with ``||W - W'||_F <= max_error * ||W||_F``;
    * `target_macs`: MACs of the whole model, as an integer or a fraction of what it has, reached where it costs least;
    * `total_error`: the fewest MACs with ``sqrt(sum over layers of bound^2) <= total_error``.

    `data` (a tensor of inputs, a list of them, a DataLoader) makes errors those of each layer's *output* over it,
    ``||y' - y|| <= max_error * ||y||``, and fits the factors to that; where a part of the data that was not fitted to
    says that factors of the kernel alone are better, those are kept (`Row.fitted`). ``inputs="compressed"`` fits each
    layer to its inputs in the model as decomposed so far, and to the original's outputs.

    `where` chooses layers (a glob over names or a predicate ``(name, module) -> bool``); without it every convolution.
    A layer is replaced only where that has fewer MACs, unless a rank was given for it by name, or for a lone layer, or
    ``only_cheaper=False``. What stays is listed with the reason. `example_inputs` (or `data`) give sizes for MACs;
    without them MACs count one position of each output.

    With ``report=True`` returns ``(model, report)``; `Report.rows` hold rank, bound, error and MACs. The bound is known
    a priori from the singular values left out (svd, separable, spatial, tucker); for cp and for factors fitted to data
    it is the residual that was computed.

    Raises InvalidArgument (UnknownName for the method), InvalidType, in a sentence.
    """
    asked: Asked = read_arguments(
        model, method, rank, max_error, target_macs, total_error, data, example_inputs, only_cheaper, inputs
    )
    changed, told = run(model, asked, where)
    return (changed, told) if report else changed
