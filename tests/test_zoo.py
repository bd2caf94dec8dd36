"""Loading models and weights by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convfold.errors import FileProblem, InvalidArgument, InvalidType, UnknownName
from convfold.zoo import import_torchvision, load_model, load_weights

NET = nn.Linear(2, 2)


def number() -> int:
    return 3


def test_timm_and_torchvision_models_are_built() -> None:
    assert import_torchvision() is import_torchvision()
    assert type(load_model("torchvision:mobilenet_v2")).__name__ == "MobileNetV2"
    assert type(load_model("timm:resnet18", num_classes=3)).__name__ == "ResNet"


def test_a_factory_or_a_module_of_ones_own() -> None:
    assert load_model("tests.test_zoo:NET") is NET


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("resnet18", InvalidArgument, "this names no model"),
        ("timm:resnt18", UnknownName, "unknown model: got 'resnt18'. Did you mean resnet18"),
        ("torchvision:resnt18", UnknownName, "Did you mean resnet18"),
        ("tests.test_zoo:number", InvalidType, "the factory gave no model: got int, expected nn.Module"),
        ("tests.test_zoo:numbr", UnknownName, "tests.test_zoo has no numbr. Did you mean number?"),
        ("no_such_package_here:net", InvalidArgument, "the package no_such_package_here is not installed"),
    ],
)
def test_other_names_are_refused(name: str, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        load_model(name)
    assert sentence in str(caught.value)


def test_weights_of_another_model_are_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(2, 2), "other": torch.ones(1)}, file)
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(FileProblem, match=r"got 1 \(bias\) missing, 1 \(other\) unknown, none of another shape"):
        load_weights(model, file)
    assert torch.equal(model.weight, before)


def test_a_broken_file_of_weights_leaves_the_model(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"not safetensors")
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(FileProblem, match="these weights do not load"):
        load_weights(model, file)
    assert torch.equal(model.weight, before)
