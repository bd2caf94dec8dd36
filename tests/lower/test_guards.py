"""Layers that are shared, hooked, parametrised or read elsewhere."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from convfold import errors
from convfold.transform.lower import lower

X = torch.randn(1, 4, 9, 10)


def test_one_module_called_twice_is_replaced_once_and_counted_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.same = self.conv

        def forward(self, x: Tensor) -> Tensor:
            return self.same(F.relu(self.conv(x))[..., 1:])

    lowered, report = lower(Twice(), X, "no-1x1", report=True)
    assert lowered.conv is lowered.same
    assert [row.layer for row in report.rows] == ["conv"]
    assert report.rows[0].macs_before == 4 * 4 * (9 * 10 + 9 * 9)


def test_shared_weights_are_told_and_in_training_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False))
    model[2].weight = model[0].weight
    _, report = lower(model.eval(), X, "no-1x1", report=True)
    assert "its weight was shared with 2, and is its own now" in report.rows[0].note
    assert "its weight was shared with 0, and is its own now" in report.rows[1].note
    with pytest.raises(errors.InvalidArgument, match="shared with another module and still trained"):
        lower(model.train(), X, "no-1x1")


def test_hooks_stay_and_see_what_they_saw() -> None:
    model, seen = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU()), []
    model[0].register_forward_hook(lambda module, args, out: seen.append((args[0].shape, out.shape)))
    lowered = lower(model, X, "no-1x1")
    seen.clear()
    lowered(X)
    assert seen == [(X.shape, (1, 6, 9, 10))]


def test_a_parametrised_weight_is_worked_in_and_in_training_refused() -> None:
    model = nn.Sequential(weight_norm(nn.Conv2d(4, 6, 1)))
    with pytest.raises(errors.InvalidArgument, match="parametrised and in training mode"):
        lower(model, X, "no-1x1")
    lowered, report = lower(model.eval(), X, "no-1x1", report=True)
    assert "parametrisation is worked into the weight" in report.rows[0].note
    torch.testing.assert_close(lowered(X), model(X))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_hook_that_makes_the_weight_is_refused() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(4, 6, 1))).eval()
    with pytest.raises(errors.InvalidArgument, match="a hook makes its weight anew"):
        lower(model, X, "no-1x1")


def test_weights_read_elsewhere_close_a_layer() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.conv.weight.mean()

    with pytest.raises(errors.InvalidArgument, match="its weights are read outside of its own call too"):
        lower(Read(), X, "no-1x1")
