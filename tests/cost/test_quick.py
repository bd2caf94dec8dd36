"""What is given on meta tensors in torch's place is what torch's kernel gives on real ones."""

import pytest
import torch
from torch import nn

from convfold.cost import cost
from convfold.cost.counting.quick import QUICK
from convfold.errors import InvalidArgument

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def arguments(name, x, channels, **changed):
    vectors = dict.fromkeys(("weight", "bias", "mean", "variance"), torch.ones(channels, device=x.device)) | changed
    training = (False,) if name == "aten::native_batch_norm" else ()
    return (x, *vectors.values(), *training, 0.1, 1e-5)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", QUICK)
def test_results_are_those_of_the_kernel(name, layout, affine):
    x = torch.ones(2, 4, 3, 5).to(memory_format=LAYOUTS[layout])
    changed = {} if affine else {"weight": None, "bias": None}
    ours = QUICK[name](*arguments(name, x.to("meta"), 4, **changed))
    kernels = getattr(torch.ops.aten, name.removeprefix("aten::"))(*arguments(name, x, 4, **changed))
    for mine, other in zip(ours, kernels, strict=True):
        assert mine.is_meta
        assert (mine.shape, mine.stride(), mine.dtype) == (other.shape, other.stride(), other.dtype)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("changed", [{"mean": torch.empty(3, device="meta")}, {"weight": torch.empty(4)}])
def test_what_does_not_fit_is_left_to_torch(name, changed):
    assert QUICK[name](*arguments(name, torch.empty(2, 4, 3, 5, device="meta"), 4, **changed)) is None
    assert QUICK[name](*arguments(name, torch.empty(4, device="meta"), 4)) is None
    assert QUICK[name](*arguments(name, torch.empty(2, 4, dtype=torch.double, device="meta"), 4)) is None


def test_statistics_of_a_batch_are_left_to_torch():
    given = list(arguments("aten::native_batch_norm", torch.empty(2, 4, 3, device="meta"), 4))
    given[5] = True
    assert QUICK["aten::native_batch_norm"](*given) is None


def test_a_wrong_number_of_channels_is_still_refused():
    with pytest.raises(InvalidArgument, match="does not run on this example input"):
        cost(nn.BatchNorm2d(3), torch.empty(2, 4, 5, 5))
