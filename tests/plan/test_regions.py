"""Which modules fold together and which stay: places, kinds of norms, modes; and the reasons."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.algebra import Op, op
from convfold.errors import NotFoldable
from transform.models import noise, relative, seeded

X = noise(2, 4, 9, 9)


def pair(**norm: Any) -> Any:
    return seeded(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, **norm)))


def reasons(model: nn.Module, x: object = X) -> dict[str, str]:
    return {refusal.place: str(refusal) for refusal in convfold.plan(model, x).refusals}


def paths(model: nn.Module, x: object = X) -> list[tuple[str, ...]]:
    return [region.paths for region in convfold.plan(model, x).regions]


class Repeated(nn.Module):
    """A nested block called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"block": blocks.RepVGGConv2d(4, 4, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.inner["block"](x))
        return x


@pytest.mark.parametrize("inputs", [X, None], ids=["inputs", "none"])
def test_bare_nested_shared_and_repeated(inputs: Any) -> None:
    block = blocks.DBBConv2d(4, 4, 3, padding=1)
    shared = nn.Sequential(block, nn.ReLU(), block)
    for model in (block, nn.Sequential(block), nn.Sequential(nn.Sequential(block), nn.ReLU()), shared, Repeated()):
        model = seeded(copy.deepcopy(model))
        plain = convfold.fold(model, inputs)
        assert relative(plain(X), model(X)) <= 1e-12
        assert not [m for m in plain.modules() if isinstance(m, (blocks.Block, nn.BatchNorm2d))]
        assert type(plain) is (nn.Conv2d if isinstance(model, blocks.Block) else type(model))
        again = convfold.fold(plain, inputs)
        assert repr(again) == repr(plain)
        assert all(torch.equal(again.state_dict()[key], value) for key, value in plain.state_dict().items())
    plain = convfold.fold(seeded(copy.deepcopy(shared)), inputs)
    assert plain[0] is plain[2]


def test_norms_of_every_kind() -> None:
    for options in ({}, {"affine": False}, {"momentum": None}, {"eps": 0.1}, {"eps": 1e-12}):
        model = pair(**options)
        assert relative(convfold.fold(model, X)(X), model(X)) <= 1e-12
        assert relative(convfold.fold(model)(X), model(X)) <= 1e-12
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(pair())
    assert type(synchronised[1]) is nn.SyncBatchNorm
    plain = convfold.fold(synchronised, X)
    assert relative(plain(X), synchronised(X)) <= 1e-12
    assert type(plain[1]) is nn.Identity
    two = seeded(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))
    assert paths(two) == [("0", "1", "2")]
    assert relative(convfold.fold(two, X)(X), two(X)) <= 1e-12
    # A block takes in the norm behind it as well.
    behind = seeded(nn.Sequential(blocks.DOConv2d(4, 4, 3), nn.BatchNorm2d(4)))
    assert paths(behind) == [("0", "1")]
    assert relative(convfold.fold(behind, X)(X), behind(X)) <= 1e-12


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolutions(dims: int, groups: int, bias: bool) -> None:
    conv = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    x = noise(2, 4, *[4] * dims)
    for outputs in (4, 8):
        layer = conv(4, outputs, 3, 2, 1, 1, groups=groups, bias=bias)
        model = seeded(nn.Sequential(layer, norm(outputs)))
        plain = convfold.fold(model, x)
        assert relative(plain(x), model(x)) <= 1e-12
        assert type(plain[0]) is conv
        for name in ("stride", "padding", "output_padding", "groups", "kernel_size", "dilation"):
            assert getattr(plain[0], name) == getattr(layer, name)


def test_linear_layers_and_tokens() -> None:
    model = seeded(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    x = noise(5, 4)
    plain = convfold.fold(model, x)
    assert relative(plain(x), model(x)) <= 1e-12
    assert type(plain[0]) is nn.Linear
    # Without inputs nobody knows how many axes there are.
    assert reasons(model, None) == {
        "1": "1: BatchNorm1d is not folded: the number of axes of its input is not known. Pass example_inputs."
    }
    tokens = noise(5, 6, 4)
    assert reasons(model, tokens) == {"1": "1: BatchNorm1d is not folded: the two act on different axes."}
    assert torch.equal(convfold.fold(model, tokens)(tokens), model(tokens))
    # The channels of an unbatched convolution stand first; here the norm reads lengths.
    unbatched = seeded(nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)))
    assert paths(unbatched, noise(3, 6)) == []
    assert "act on different axes" in reasons(unbatched, noise(3, 6))["1"]
    assert torch.equal(convfold.fold(unbatched, noise(3, 6))(noise(3, 6)), unbatched(noise(3, 6)))


def test_a_norm_in_training_mode_stops_the_fold_and_is_listed() -> None:
    acnet = ["0.dense_norm", "0.flat_norms.0", "0.flat_norms.1"]
    for model, places in ((pair(), ["1"]), (nn.Sequential(blocks.ACNetConv2d(4, 4, 3)), acnet)):
        place = places[0]
        model.train()
        with pytest.raises(
            NotFoldable, match=rf"^{place}: BatchNorm2d is not folded: it is in training mode.*eval\(\)"
        ):
            convfold.fold(model, X.to(next(model.parameters())))
        plan = convfold.plan(model, X.to(next(model.parameters())))
        assert not plan.regions
        assert [r.place for r in plan.blocking] == places
        assert plan.blocking == plan.refusals
        assert [r.place for r in convfold.plan(model).blocking] == [place]
    block = blocks.RepVGGConv2d(4, 4, 3)
    with pytest.raises(NotFoldable, match="BatchNorm2d is not folded: it is in training mode"):
        block.fold()


class Padded(nn.Module):
    """A bias under zero padding: no convolution computes this, but one with a bias map does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def op(self) -> Op:
        return op(self.first) >> op(self.second)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_norm_after_something_that_stays_is_told_why() -> None:
    model = seeded(nn.Sequential(Padded(), nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4))))
    text = reasons(model, None)
    assert set(text) == {"0", "1.1"}
    assert "its bias is not constant at the border of the zero-padded convolution after it" in text["0"]
    assert text["1.1"] == "1.1: BatchNorm2d is not folded: '1.0' before it does not fold."
    assert torch.equal(convfold.fold(model)(X), model(X))


def test_a_padded_bias_folds_by_a_bias_map() -> None:
    model = seeded(nn.Sequential(Padded(), nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4))))
    plan = convfold.plan(model, X)
    assert [r.paths for r in plan.regions] == [("0", "1.0", "1.1")]
    assert not plan.refusals
    assert (plan.after.macs, plan.after.convolutions, plan.after.operators) == (8192, 1, 2)
    assert plan.before.macs == 25920
    plain = plan.apply()
    assert relative(plain(X), model(X)) <= 1e-12
    # Behind a stride the size decides what the last position sees.
    with pytest.raises(RuntimeError, match=r"differs at the border was folded for maps of \(9, 9\), got \(12, 7\)"):
        plain(noise(1, 4, 12, 7))
    flat = seeded(nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3, padding=1), nn.BatchNorm2d(4)))
    plain = convfold.fold(flat, X)
    assert nn.BatchNorm2d not in {type(m) for m in plain.modules()}
    for size in ((9, 9), (12, 7), (2, 3), (1, 1)):
        x = noise(1, 4, *size)
        assert relative(plain(x), flat(x)) <= 1e-12


def test_a_norm_outside_any_region_may_train() -> None:
    model = seeded(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), blocks.DOConv2d(4, 4, 3))).train()
    for inputs in (X, None):
        plan = convfold.plan(model, inputs)
        assert not plan.blocking
        plain = convfold.fold(model, inputs)
        assert type(plain[2]) is nn.Conv2d
        assert type(plain[1]) is nn.BatchNorm2d
        assert plain[1].training
    assert "it is in training mode" in reasons(model)["1"]
    # In eval mode it goes into the block.
    assert paths(model.eval()) == [("1", "2")]
    plain = convfold.fold(model, X)
    assert [type(m) for m in plain] == [nn.ReLU, nn.Identity, nn.Conv2d]
    assert relative(plain(X), model(X)) <= 1e-12


def test_a_frozen_norm_in_a_training_model_folds() -> None:
    model = nn.Sequential(pair(), nn.Dropout(0.5), blocks.ExpandNetConv2d(4, 4, 3).double()).train()
    model[0][1].eval()
    plain = convfold.fold(model, X)
    assert plain.training
    assert plain[0][0].training
    assert not plain[0][1].training
    assert type(plain[2]) is nn.Conv2d
    torch.manual_seed(0)
    a = model(X)
    torch.manual_seed(0)
    assert relative(plain(X), a) <= 1e-12


def test_norms_without_statistics_are_listed() -> None:
    model = pair(track_running_stats=False)
    reason = "it keeps no running statistics, so it is no fixed linear map"
    assert reason in reasons(model)["1"]
    assert reason in reasons(model, None)["0"]
    for inputs in (X, None):
        assert torch.equal(convfold.fold(model, inputs)(X), model(X))


class WithRelu(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_norms_of_other_classes_fold_where_they_are_seen_to_compute_one() -> None:
    own = seeded(nn.Sequential(nn.Conv2d(4, 4, 3), WithRelu(4)))
    assert reasons(own, None)["1"].startswith("1: WithRelu is not folded: its class computes more than")
    assert torch.equal(convfold.fold(own)(X), own(X))
    assert paths(own) == [("0", "1")]
    plan = convfold.plan(own, X)
    plain = plan.apply()
    assert plan.after.operators == plan.before.operators - 1
    assert relative(plain(X), own(X)) <= 1e-12
    assert bool((plain(X) == 0).any())


def test_norms_that_did_not_run_are_listed() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.spare = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)).relu()

    model = seeded(Spare())
    assert reasons(model) == {"spare": "spare: BatchNorm2d is not folded: the captured run did not reach it."}
    plain = convfold.fold(model, X)
    assert type(plain.norm) is nn.Identity
    assert torch.equal(plain.spare.running_mean, model.spare.running_mean)
    assert relative(plain(X), model(X)) <= 1e-12


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float) -> None:
    for spoil in ("0.weight", "0.bias", "1.running_var", "1.weight"):
        model = pair()
        model.state_dict()[spoil].view(-1)[1] = value
        plan = convfold.plan(model, X)
        assert not plan.regions
        place = spoil[0]
        with pytest.raises(
            NotFoldable, match=rf"^{place}: kernel is not folded: 1 of its \d+ values .* are not finite"
        ):
            convfold.fold(model, X)
    alone = seeded(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()))
    with torch.no_grad():
        alone[0].weight[0, 0, 0, 0] = value
    assert type(convfold.fold(alone, X)[0]) is nn.Conv2d


def test_weights_are_finite_though_their_sum_is_not() -> None:
    model = pair().half()
    with torch.no_grad():
        model[0].weight.fill_(6e4)
    assert not bool(model[0].weight.sum().isfinite())
    assert convfold.plan(model, X.half()).regions


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_layouts_are_kept(dtype: torch.dtype) -> None:
    model = pair().to(dtype).to(memory_format=torch.channels_last)
    plain = convfold.fold(model, X.to(dtype))
    assert {p.dtype for p in plain.parameters()} == {dtype}
    assert plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    wide = copy.deepcopy(model).double()
    exact = convfold.fold(wide, X)
    assert torch.equal(plain[0].weight, exact[0].weight.to(dtype))
    assert plain(X.to(dtype)).dtype == dtype
    assert convfold.verify(model, plain, X.to(dtype))
