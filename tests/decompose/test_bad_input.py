"""What decompose refuses, in a sentence."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument, InvalidType, UnknownName
from convfold.transform.decompose import decompose, is_separable

CONV = nn.Conv2d(4, 8, 3)
MODEL = nn.Sequential(CONV, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.LazyLinear(2))
X = torch.zeros(1, 4, 7, 7)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({}, InvalidArgument, "takes one measure of how far to go: got none, expected one of rank, max_error,"),
        ({"rank": 2, "max_error": 0.1}, InvalidArgument, "how far to go: got rank and max_error"),
        ({"method": "seperable", "rank": 1}, UnknownName, "no such method.*'seperable'.*Did you mean 'separable'?"),
        ({"method": "qr", "rank": 1}, UnknownName, "expected separable, spatial, svd, tucker, cp"),
        ({"rank": 9}, InvalidArgument, "the layer: rank 9 is above the full rank, 8. Give a rank up to the full one"),
        ({"rank": (9, 2), "method": "tucker"}, InvalidArgument, r"rank \(9, 2\) is above the full rank, 8 out, 4 in"),
        ({"rank": 9, "method": "tucker"}, InvalidArgument, "rank 9 is above the full rank, 8 out, 4 in"),
        ({"rank": {"": 9}}, InvalidArgument, "the layer: rank 9 is above the full rank, 8"),
        ({"rank": 0}, InvalidArgument, "rank: the least rank is 1: got 0"),
        ({"rank": -2}, InvalidArgument, "the least rank is 1: got -2"),
        ({"rank": (0, 2), "method": "tucker"}, InvalidArgument, r"the least rank is 1: got \(0, 2\)"),
        ({"rank": (2, 2)}, InvalidArgument, "separable takes no such rank.*expected one number"),
        ({"rank": (2, 2, 2), "method": "tucker"}, InvalidArgument, r"expected a pair \(r_out, r_in\)"),
        ({"rank": 1.5}, InvalidArgument, "a fraction of the full rank lies above 0 and at most at 1: got 1.5"),
        ({"rank": "all"}, InvalidType, "this is no rank: got str, expected an integer, a fraction"),
        ({"rank": True}, InvalidType, "this is no rank: got bool"),
        ({"rank": {}}, InvalidArgument, "rank names no layer"),
        ({"rank": {"stem": 2}}, InvalidArgument, "rank names a layer that is not there: got 'stem'"),
        ({"rank": {"*": 0}}, InvalidArgument, re.escape("rank of '*': the least rank is 1: got 0")),
        ({"max_error": -0.1}, InvalidArgument, "max_error: an error is neither negative nor infinite: got -0.1"),
        ({"max_error": float("nan")}, InvalidArgument, "an error is neither negative nor infinite: got nan"),
        ({"total_error": float("inf")}, InvalidArgument, "total_error: an error is neither negative nor infinite"),
        ({"max_error": "small"}, InvalidType, "max_error: this is no error: got str, expected a number"),
        ({"target_macs": 0.5}, InvalidArgument, "depend on the size of its inputs. Give example_inputs="),
        ({"target_macs": 1.5, "example_inputs": X}, InvalidArgument, "above 0 and at most at 1: got 1.5. A number of"),
        ({"target_macs": 0, "example_inputs": X}, InvalidArgument, "a model has at least one MAC: got 0"),
        (
            {"target_macs": "few", "example_inputs": X},
            InvalidType,
            "no number of MACs: got str, expected an integer or",
        ),
        (
            {"target_macs": 10, "example_inputs": X},
            InvalidArgument,
            "separable cannot bring the model to so few MACs: ",
        ),
        ({"rank": 1, "inputs": "compresed"}, InvalidArgument, "no such inputs.*Did you mean 'compressed'"),
        ({"rank": 1, "inputs": "compressed"}, InvalidArgument, "are seen on data. Give data="),
        ({"rank": 1, "data": "digits"}, InvalidType, "data is of the wrong type: got str, expected a tensor of inputs"),
        ({"rank": 1, "data": {"x": X}}, InvalidType, "data is of the wrong type: got dict"),
        ({"rank": 1, "data": []}, InvalidArgument, "data holds no sample: got 0 items"),
        ({"rank": 1, "data": torch.zeros(0, 4, 7, 7)}, InvalidArgument, "data holds no sample: got 1 items"),
        ({"rank": 1, "data": [1]}, InvalidType, "example inputs are of the wrong type: got int"),
        ({"rank": 1, "data": torch.zeros(5, 3, 7, 7)}, InvalidArgument, "does not run on"),
        (
            {"rank": 1, "example_inputs": torch.zeros(1, 3, 7, 7)},
            InvalidArgument,
            "does not run on these example inputs",
        ),
        ({"rank": 1, "where": "head"}, InvalidArgument, "where matches no layer: got 'head'"),
        ({"rank": 1, "where": 3}, InvalidType, "where is neither a glob nor a predicate: got int"),
    ],
)
def test_arguments(options: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        decompose(CONV, **options)


def test_models() -> None:
    with pytest.raises(InvalidType, match=r"decompose reads modules: got str, expected torch\.nn\.Module"):
        decompose("resnet18", rank=1)  # type: ignore[call-overload]
    with pytest.raises(
        InvalidArgument, match=r"Sequential: no convolution is reached: got 2 modules. A model of blocks"
    ):
        decompose(nn.Sequential(nn.ReLU()), rank=1)
    linear = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(
        InvalidArgument, match=r"no convolution is reached: got 2 Linear layers. Choose Linear layers by"
    ):
        decompose(linear, "svd", rank=1)
    with pytest.raises(InvalidArgument, match=r"where matches no layer: got 'x'. The model has no convolution"):
        decompose(nn.ReLU(), "svd", rank=1, where="x")
    with pytest.raises(InvalidArgument, match=r"where matches no layer: got '5'. Layers are named like 0, 3"):
        decompose(nn.Sequential(CONV, nn.ReLU(), CONV, nn.Conv2d(8, 4, 3)), "svd", rank=1, where="5")
    with pytest.raises(InvalidArgument, match=r"4.weight: the parameter has no shape yet"):
        decompose(MODEL, "svd", rank=1)
    with pytest.raises(InvalidArgument, match=r"0: rank 30 is above the full rank, 8. Give a rank up to the full one"):
        decompose(nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3)), "svd", rank=30)
    with pytest.raises(InvalidType, match="separability is a question about convolutions: got ReLU"):
        is_separable(nn.ReLU())


def test_data_that_the_model_does_not_take() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x + y)

    with pytest.raises(InvalidArgument, match="does not take these example inputs"):
        decompose(Pair(), "svd", rank=1, data=[torch.zeros(2, 4, 5, 5)])
    assert decompose(Pair(), "svd", rank=1, data=[(torch.ones(2, 4, 5, 5), torch.ones(2, 4, 5, 5))]) is not None
