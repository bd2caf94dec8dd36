"""Names of constants that are computed of others: keys for blocks, and blocks that nothing calls any more."""

import pytest
from torch import nn

import convfold
from convfold import blocks
from transform.models import noise, relative, seeded

X = noise(2, 4, 9, 9)


def test_every_number_of_a_block_has_a_key() -> None:
    model = seeded(nn.Sequential(nn.ReLU(), blocks.ACNetConv2d(4, 4, 3)))
    keys = convfold.plan(model, X).keys
    assert set(keys) == {name for name, tensor in model.state_dict().items() if tensor.dim()}
    assert {keys[name] for name in keys if name.endswith(("dense.weight", "flat.0.weight"))} == {"1.weight"}
    assert keys["1.dense_norm.running_var"] == keys["1.flat_norms.1.bias"] == "1.bias"


@pytest.mark.parametrize("mode", ["feature", "kernel"])
def test_a_block_that_was_taken_in_is_gone(mode: str) -> None:
    scaled = blocks.ACNetConv2d(4, 4, 3, bias=False, norm="scale")
    scaled.mode = mode
    model = seeded(nn.Sequential(nn.Conv2d(4, 4, 1), scaled, nn.AvgPool2d(7), nn.Flatten(), nn.Linear(4, 2)))
    plan = convfold.plan(model, X)
    folded = plan.apply()
    assert relative(folded(X), model(X)) <= 1e-12
    assert not any(name.startswith("1.") for name in folded.state_dict())
    assert set(plan.keys.values()) <= set(folded.state_dict())
    assert {name for name in plan.keys if name.startswith("1.")}
