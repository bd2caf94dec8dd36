"""Plans as files: saved, loaded, applied to a freshly built model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.errors import FileProblem, InvalidArgument
from plan.mixed import X
from transform.models import relative, seeded


def mixed() -> Any:
    """A block, a convolution with its norm, one with a hook's worth of trouble, and what is left alone."""
    return seeded(
        nn.Sequential(
            blocks.DBBConv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Dropout(0.5),
            nn.Conv2d(6, 2, 1),
        )
    )


def test_saved_plans_apply_to_freshly_built_models(tmp_path: Path) -> None:
    model = mixed()
    plan = convfold.plan(model, X)
    plan.save(tmp_path / "plan.json")
    plain = plan.apply()
    loaded = convfold.load_plan(tmp_path / "plan.json")
    assert loaded.regions == plan.regions
    assert loaded.refusals == plan.refusals
    assert loaded.keys == plan.keys
    fresh = mixed().train()
    structure = loaded.apply(fresh)
    assert repr(structure) == repr(plain)
    new = {
        name for name in plain.state_dict() if not torch.equal(structure.state_dict()[name], plain.state_dict()[name])
    }
    assert new == {"0.weight", "0.bias", "2.0.weight", "2.0.bias", "6.weight", "6.bias"}
    assert all(bool(structure.state_dict()[name].isnan().all()) for name in new)
    structure.load_state_dict(plain.state_dict())
    assert relative(structure.eval()(X), model(X)) <= 1e-12
    assert all(m.training for m in fresh.modules())
    with pytest.raises(InvalidArgument, match=r"a loaded plan needs the model to apply it to: got apply\(\), expected"):
        loaded.apply()


class Twice(nn.Module):
    """A module under two names, called twice; a block, and a linear layer behind something that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
        self.scaled = blocks.ACNetConv2d(3, 4, 3, bias=False, norm="scale")
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.scaled(self.b(self.a(x)).relu()).amax((2, 3)))


class Averaged(Twice):
    """All of it is linear."""

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.scaled(self.b(self.a(x))).mean((2, 3)))


@pytest.mark.parametrize("inputs", [X, None], ids=["inputs", "none"])
@pytest.mark.parametrize("make", [Twice, Averaged])
def test_keys_map_every_old_tensor_to_one_that_is_there(make: Any, inputs: Any) -> None:
    model = seeded(make())
    plan = convfold.plan(model, inputs)
    plain = plan.apply()
    old = {name: tensor for name, tensor in model.state_dict().items() if tensor.dim()}
    assert set(plan.keys) == set(old)
    new = plain.state_dict()
    assert set(plan.keys.values()) <= set(new)
    # All that is there has come from somewhere; of a module under two names one is enough.
    assert {new[name].data_ptr() for name in plan.keys.values()} == {tensor.data_ptr() for tensor in new.values()}
    assert all(new[plan.keys[name]].dim() == 4 for name, tensor in old.items() if tensor.dim() == 4)
    assert relative(plain(X), model(X)) <= 1e-12


def test_keys_are_those_of_the_modules_that_took_the_numbers_in() -> None:
    keys = convfold.plan(seeded(Twice())).keys
    assert keys["b.1.running_mean"] == "b.0.bias"
    assert keys["linear.bias"] == "linear.bias"
    seen = convfold.plan(seeded(Twice()), X).keys
    assert seen["b.1.running_mean"] == "a.0.bias"  # two calls are one 5x5
    assert seen["b.0.weight"] == "b.0.weight"
    assert seen["linear.bias"] == "linear.bias"
    for found in (keys, seen):
        assert found["scaled.flat.0.weight"] == "scaled.weight"
        assert found["scaled.flat_norms.0.weight"] == "scaled.weight"


def test_a_bare_root_has_keys_without_a_path() -> None:
    plan = convfold.plan(blocks.RepVGGConv2d(3, 4, 3).eval())
    assert set(plan.keys.values()) == {"weight", "bias"}
    assert "(the model)" in str(plan)


@pytest.mark.parametrize("other", [nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(3, 4, 3))])
def test_a_plan_of_another_model_is_refused(other: nn.Module) -> None:
    plan = convfold.plan(mixed(), X)
    match = r"0: the plan is not of this Sequential: got \w+, expected DBBConv2d.*freshly built"
    with pytest.raises(InvalidArgument, match=match):
        plan.apply(other)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format": "convfold plan 0"}', '{"format": "convfold plan 1"}', '{"format": "convfold plan 2"}'],
)
def test_files_that_are_no_plans(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(FileProblem, match=r"plan\.json: this is no saved plan \(.*\): expected convfold plan 2"):
        convfold.load_plan(path)
    with pytest.raises(FileProblem, match=r"none\.json: this is no saved plan \(No such file"):
        convfold.load_plan(tmp_path / "none.json")


def test_plans_are_plain_values(tmp_path: Path) -> None:
    plan = convfold.plan(mixed(), X)
    assert json.loads(json.dumps(plan.to_dict())) == plan.to_dict()
    with pytest.raises(FileProblem, match="no/such"):
        plan.save(tmp_path / "no/such/plan.json")
    assert not list(tmp_path.iterdir())
