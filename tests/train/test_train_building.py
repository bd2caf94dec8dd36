"""Networks are built for the data at hand, filled and expanded; what does not fit has a sentence."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("sklearn")

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument, InvalidType, NotEqual
from convfold.train import Session, Settings, building
from convfold.train.images import digit_images
from convfold.transform import expand
from convfold.zoo import import_torchvision, load_model
from support.training import TINY, pictures, tiny

SHORT = Settings("digits", TINY, epochs=3, batch_size=128)


def test_weights_are_the_start_and_expanding_keeps_the_function(tmp_path: Path) -> None:
    torch.manual_seed(5)
    save_file(tiny().state_dict(), tmp_path / "w.safetensors")
    settings = replace(SHORT, weights=str(tmp_path / "w.safetensors"), expand="dbb")
    session = Session(settings, tmp_path / "out")
    session.close()
    assert session.built.start
    plain = tiny()
    plain.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = session.built.example
    torch.testing.assert_close(session.built.model.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-6)
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(FileProblem, match="these weights do not load"):
        Session(settings, tmp_path / "out", resume=True)


def test_a_head_for_other_classes_may_start_anew(tmp_path: Path) -> None:
    save_file(tiny(num_classes=4).state_dict(), tmp_path / "w.safetensors")
    settings = replace(SHORT, weights=str(tmp_path / "w.safetensors"))
    with pytest.raises(FileProblem, match=r"2 \(7.bias, 7.weight\) of another shape"):
        Session(settings, tmp_path / "out")
    session = Session(replace(settings, new_head=True), tmp_path / "out")
    session.close()
    assert session.built.notes == ["2 tensors keep their own start, being of another shape: 7.weight, 7.bias"]


def test_an_expansion_that_changes_the_function_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: nn.Module, block: str, example_inputs: Tensor) -> nn.Module:
        wide = expand(model, block, example_inputs=example_inputs)
        with torch.no_grad():
            next(wide.parameters()).mul_(2)
        return wide

    monkeypatch.setattr(building, "expand", wrong)
    with pytest.raises(NotEqual, match="the expanded model does not compute what the plain one does"):
        Session(replace(SHORT, expand="dbb"), tmp_path)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"batch_size": 10, "accumulate": 3},
            "a step cannot be shared evenly: got 10, expected a multiple of 3",
        ),
        ({"batch_size": 2000, "accumulate": 1000}, "too few images to train on: got 898, expected 1000 or more"),
        ({"precision": "fp16"}, "fp16 is trained on a GPU"),
        ({"channels": 3}, "the digits are grey"),
        ({"model": "support.training:unsized"}, "the factory does not take the number of classes"),
        (
            {"model": "support.training:wide"},
            r"one score per class: got \(2, 7\) for 2 images",
        ),
        (
            {"model": "support.training:coloured"},
            r"the model does not run on these images.*--size and",
        ),
        ({"model": "file.pt2"}, "an exported program cannot be trained"),
        ({"expand": "nothing"}, "unknown block"),
        ({"expand": "missing.toml"}, "this is no recipe"),
    ],
)
def test_bad_input_has_a_sentence(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises((ConvfoldError, InvalidType), match=sentence):
        Session(replace(SHORT, **more), tmp_path)


def test_pictures_of_many_sizes_need_a_size(tmp_path: Path) -> None:
    pictures(tmp_path / "data", size=12)
    pictures(tmp_path / "data" / "cat", ("more",), size=16)
    settings = Settings(str(tmp_path / "data"), "support.training:coloured", 1, batch_size=4)
    with pytest.raises(InvalidArgument, match="--size: the pictures are of many sizes, and the model's own"):
        Session(settings, tmp_path / "out")
    session = Session(replace(settings, size=10), tmp_path / "out")
    session.train()
    session.close()
    assert session.built.view.shape == (3, 10, 10)
    assert (session.built.view.augment, session.built.view.flip) == ("crop", True)


def test_the_mode_is_chosen_for_the_share_of_one_process() -> None:
    settings = replace(SHORT, expand="expandnet", batch_size=64, size=3)
    alone, among = (building.build(settings, digit_images(), processes) for processes in (1, 64))
    assert set(alone.modes.values()) == {"kernel"}
    assert "feature" in among.modes.values()


@pytest.mark.parametrize("name", ["resnet18", "lraspp_mobilenet_v3_large"])
def test_torchvisions_models_are_built_without_a_download(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    import_torchvision()
    asked: list[str] = []
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, *_, **__: asked.append(url))
    load_model(f"torchvision:{name}")
    assert asked == []


def test_only_blocks_without_batch_statistics_choose_a_mode() -> None:
    model = nn.Sequential(expand(tiny(), "doconv", where="0"), expand(tiny(), "dbb", where="0"))
    chosen = {}
    for wanted in ("feature", "kernel", "auto"):
        chosen[wanted] = building.choose_modes(model[0], wanted, torch.zeros(16, 1, 8, 8))
    assert chosen == {"feature": {"0": "feature"}, "kernel": {"0": "kernel"}, "auto": {"0": "kernel"}}
    assert building.choose_modes(model[1], "auto", torch.zeros(16, 1, 8, 8)) == {}
    # One position of one image: composing the kernels of a wide chain costs more than running them.
    chain = nn.Sequential(expand(nn.Conv2d(8, 8, 3), "expandnet"))
    assert building.choose_modes(chain, "auto", torch.zeros(1, 8, 3, 3)) == {"0": "feature"}
    assert building.choose_modes(chain, "auto", torch.zeros(64, 8, 32, 32)) == {"0": "kernel"}
