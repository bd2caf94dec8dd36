"""The models of ``convfold bench zoo``: the list, and states in which nothing hides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold.errors import InvalidArgument
from convfold.studies.bench.zoo import models as bench_zoo_models
from convfold.studies.bench.zoo.models import FAMILIES, OWN, TwoDBB, default_models, example_input, prepared, randomise


class Scaled(nn.Module):
    """Everything that starts at a value in which a mistake is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 40, 3), nn.BatchNorm2d(40)
        self.unused = nn.BatchNorm2d(4)
        self.layer_scale = nn.Parameter(1e-6 * torch.ones(40, 1, 1))
        self.table, self.shift = nn.Parameter(torch.zeros(40, 4)), nn.Parameter(torch.zeros(40))
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) * self.layer_scale + self.shift[:, None, None]  # type: ignore[no-any-return]


def test_nothing_stays_at_its_start() -> None:
    model = Scaled().eval()
    randomise(model, torch.randn(1, 3, 8, 8), 0)
    assert all(bool((p != 0).all()) for p in model.parameters())
    assert (model.norm.weight < 0).any()
    assert (model.norm.weight > 0).any()
    assert float(model.layer_scale.detach().abs().min()) >= 0.3
    for norm in (model.norm, model.unused):
        assert (norm.running_mean != 0).all()
        assert (norm.running_var != 1).all()
        assert (norm.running_var > 0).all()


def test_activations_keep_their_size_through_many_layers() -> None:
    torch.manual_seed(0)
    layers = [m for _ in range(30) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(1, 16, 12, 12)
    randomise(model, x, 0)
    with torch.no_grad():
        assert 0.1 < float(model(torch.randn(1, 16, 12, 12)).square().mean().sqrt()) < 10


def test_a_state_is_its_seeds_alone() -> None:
    first, second, third = (prepared(OWN, None, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["0.weight"], third["0.weight"])


def test_the_input_is_the_models_own_or_of_the_size_given() -> None:
    assert list(example_input(OWN, TwoDBB(), None, 0).shape) == [1, 3, 56, 56]
    assert list(example_input("torchvision:inception_v3", nn.Identity(), None, 0).shape) == [1, 3, 299, 299]
    assert list(example_input("torchvision:other", nn.Identity(), 64, 0).shape) == [1, 3, 64, 64]
    timm_like = nn.Identity()
    timm_like.default_cfg = {"input_size": (3, 160, 160)}  # type: ignore[assignment]
    assert list(example_input("timm:x", timm_like, None, 0).shape) == [1, 3, 160, 160]


def test_a_size_that_the_model_refuses_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bench_zoo_models, "load_model", lambda name: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    )
    with pytest.raises(InvalidArgument, match=r"x: the model does not run \(.*got \[1, 3, 224, 224\]"):
        prepared("x", None, 0)


def test_the_default_list_has_no_name_twice_and_torchvisions_set() -> None:
    names = default_models()
    assert len(set(names)) == len(names)
    assert {"torchvision:resnet18", "torchvision:vit_h_14", "timm:lcnetv2_small", OWN} <= set(names)
    timm = pytest.importorskip("timm")
    assert {name.removeprefix("timm:") for name in FAMILIES if name.startswith("timm:")} <= set(timm.list_models())
