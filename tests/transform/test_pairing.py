"""expand pairs a convolution with its norm by the flow of values, never by the order of registration."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from transform.models import noise, relative, seeded


class Backwards(nn.Module):
    """Norms registered before the convolutions, and crosswise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv_b, self.conv_a = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_b(self.conv_b(torch.relu(self.norm_a(self.conv_a(x)))))


class ReadTwice(nn.Module):
    """The convolution's output goes to its norm and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class CalledTwice(nn.Module):
    """One convolution, two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm1, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv(self.norm1(self.conv(x))))


class OneNorm(nn.Module):
    """Two convolutions, one norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), None
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv1(x)) + self.norm(self.conv2(x))


class Between(nn.Module):
    """Something functional between the convolution and the norm."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.inplace = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), inplace

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(nn.functional.relu(self.conv(x), inplace=self.inplace))


class Shared(nn.Module):
    """One convolution under two names, with one norm under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = self.norm_again = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_again(self.again(torch.relu(self.norm(self.conv(x)))))


class Untraceable(nn.Module):
    """A forward that no symbolic trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if float(y.detach().sum()) == 12345.0:
            return y
        return self.norm(y)


PAIRED: list[tuple[Any, dict[str, str]]] = [
    (Backwards, {"conv_a": "norm_a", "conv_b": "norm_b"}),
    (ReadTwice, {"conv": ""}),
    (CalledTwice, {"conv": ""}),
    (OneNorm, {"conv1": "", "conv2": ""}),
    (lambda: Between(False), {"conv": ""}),
    (lambda: Between(True), {"conv": ""}),
    (Shared, {"conv": "norm"}),
]


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize(("make", "pairs"), PAIRED, ids=[str(i) for i in range(len(PAIRED))])
@pytest.mark.parametrize("name", ["dbb", "repvgg", "doconv"])
def test_norms_are_paired_by_the_flow_of_values(name: str, make: Any, pairs: dict[str, str], inputs: bool) -> None:
    model, x = seeded(make()), noise(2, 3, 6, 6)
    expansion = convfold.plan_expansion(model, name, example_inputs=x if inputs else None)
    found = {choice.path: choice.norm for choice in expansion.choices}
    assert found == (dict.fromkeys(pairs, "") if name == "doconv" else pairs)
    wide = expansion.apply()
    assert relative(wide.eval()(x), model.eval()(x)) <= 1e-12
    plain = convfold.fold(wide, x)
    assert relative(plain(x), model(x)) <= 1e-12
    if name == "doconv" or all(pairs.values()):
        assert {choice.reason for choice in expansion.choices} == {"same function"}
        assert relative(copy.deepcopy(wide).train()(x), copy.deepcopy(model).train()(x)) <= 1e-11
    else:
        assert {choice.reason for choice in expansion.choices} == {"same function in eval mode only"}


def test_a_shared_module_stays_shared() -> None:
    model = seeded(Shared())
    wide = convfold.expand(model, "dbb", example_inputs=noise(2, 3, 6, 6))
    assert wide.conv is wide.again
    assert isinstance(wide.conv, blocks.DBBConv2d)
    assert isinstance(wide.norm, nn.Identity)
    assert wide.norm is wide.norm_again


def test_what_cannot_be_traced_is_paired_by_a_run_alone() -> None:
    model, x = seeded(Untraceable()), noise(2, 3, 6, 6)
    assert [c.norm for c in convfold.plan_expansion(model, "dbb").choices] == [""]
    # The run shows that the sum reads the convolution's output too.
    assert [c.norm for c in convfold.plan_expansion(model, "dbb", example_inputs=x).choices] == [""]
    inside = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Untraceable())
    assert convfold.plan_expansion(inside, "dbb").choices[0].norm == "1"


def test_a_frozen_norm_stays_frozen() -> None:
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    model[1].eval().requires_grad_(False)
    wide, x = convfold.expand(model, "acnet"), noise(2, 3, 6, 6)
    assert relative(wide(x), model(x)) <= 1e-12
    assert not wide[0].dense_norm.weight.requires_grad
    assert all(p.requires_grad for norm in wide[0].flat_norms for p in norm.parameters())
    assert not wide[1].training
    # In a training model the frozen block folds, and trains on.
    assert relative(convfold.fold(wide, x)(x), model(x)) <= 1e-12


def test_synchronised_norms_stay_synchronised() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    wide = convfold.expand(model, "dbb")
    kinds = {type(m) for m in wide.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
    x = torch.randn(2, 3, 6, 6)
    assert convfold.verify(model, wide, x)


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("place", ["0", "1"])
@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_a_hooked_layer_or_norm_is_not_paired(register: str, place: str, inputs: bool) -> None:
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), noise(2, 3, 6, 6)
    assert convfold.plan_expansion(model, "repvgg", example_inputs=x if inputs else None).choices[0].norm == "1"
    getattr(model[int(place)], register)(lambda *arguments: None)
    assert convfold.plan_expansion(model, "repvgg", example_inputs=x if inputs else None).choices[0].norm == ""


def test_hooks_move_to_the_block_and_forbid_pairing() -> None:
    model, x = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval(), noise(2, 3, 6, 6)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    expansion = convfold.plan_expansion(model, "repvgg", example_inputs=x)
    assert expansion.choices[0].norm == ""
    wide = expansion.apply()
    seen.clear()  # the recorded run was seen too
    model(x)
    wide(x)
    assert len(seen) == 2
    assert relative(seen[1], seen[0]) <= 1e-12
