"""Loading models and weights by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convfold.errors import FileProblem, InvalidArgument, InvalidType, UnknownName
from convfold.zoo import import_torchvision, known_inputs, load_model, load_weights, open_model

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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("timm:mobilenetv3_small_050", (1, 3, 224, 224)),
        ("timm:levit_128s", (1, 3, 224, 224)),
        ("timm:efficientnet_b1", (1, 3, 240, 240)),
        ("timm:inception_v3", (1, 3, 299, 299)),
        ("torchvision:squeezenet1_1", (1, 3, 224, 224)),
        ("torchvision:inception_v3", (1, 3, 299, 299)),
    ],
)
def test_inputs_that_are_known(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = load_model(name)
    inputs = known_inputs(name, model)
    assert inputs is not None
    assert [tuple(tensor.shape) for tensor in inputs] == [shape]


def test_inputs_that_are_not_known() -> None:
    assert known_inputs("torchvision:r3d_18", NET) is None
    assert known_inputs("tests.test_zoo:NET", NET) is None


def test_an_input_has_the_precision_of_the_model() -> None:
    inputs = known_inputs("torchvision:squeezenet1_1", nn.Linear(2, 2).double())
    assert inputs is not None
    assert inputs[0].dtype == torch.float64


class Two(nn.Module):
    """Two inputs, of which one may be named."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + y


@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_program_brings_its_inputs(tmp_path: Path, named: int) -> None:
    model, x, y = Two().eval(), torch.randn(3, 2), torch.randn(3, 2)
    args, kwargs = (((x, y), {}), ((x,), {"y": y}), ((), {"x": x, "y": y}))[named]
    torch.export.save(torch.export.export(model, args, kwargs), tmp_path / "two.pt2")
    program, inputs = open_model(str(tmp_path / "two.pt2"))
    assert program.state_dict().keys() == model.state_dict().keys()
    assert isinstance(inputs, (tuple, type(None), dict)[named])
    assert torch.equal(program(*args, **kwargs), model(x, y))
    assert program.train().eval() is program
    if named == 0:
        with pytest.raises(InvalidArgument, match="for other sizes: got 4x2, 3x2, expected 3x2, 3x2"):
            program(torch.ones(4, 2), y)
