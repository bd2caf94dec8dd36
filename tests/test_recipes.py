"""docs/recipes.md: every piece runs; timm's with timm, Lightning's and Ultralytics' with stand-ins of their structure.

The stand-ins hold what a piece touches, in the order in which the tools' sources do it.
"""

from __future__ import annotations

import copy
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.zoo import import_torchvision

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
SECTIONS = dict(re.findall(r"^##+ (.*?)\n(.*?)(?=^##+ |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def python(section: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)


def run(code: str, **names: object) -> dict[str, Any]:
    exec(compile(code, "recipes.md", "exec"), names)
    return names


def network(width: int = 4) -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    second = [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(4, 3, 16, 16, generator=generator), torch.tensor([0, 1, 0, 1])) for _ in range(count)]


def is_folded(plain: nn.Module, wide: nn.Module, x: Tensor) -> None:
    assert not [m for m in plain.modules() if isinstance(m, (nn.BatchNorm2d, convfold.blocks.Block))]
    assert [m for m in wide.modules() if isinstance(m, convfold.blocks.Block)]
    assert convfold.verify(wide, plain, x)


def test_the_rules_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = PAGE.split("\n## ")[0]
    (tmp_path / "recipe.toml").write_text(re.findall(r"```toml\n(.*?)```", before, re.DOTALL)[0])
    stages = {"conv1": nn.Conv2d(3, 8, 3, padding=1), "deep": nn.Conv2d(8, 8, 3, groups=8), "last": nn.Conv2d(8, 4, 3)}
    model = nn.Sequential()
    for name, stage in stages.items():
        model.add_module(name, stage)
    names: dict[str, Any] = {"convfold": convfold, "model": model, "x": torch.randn(1, 3, 16, 16)}
    kinds = []
    for piece in re.findall(r"```python\n(.*?)```", before, re.DOTALL):
        exec(compile(piece, "recipes.md", "exec"), names)
        kinds.append([type(module).__name__ for module in names["wide"].children()])
    assert kinds[0] == ["ExpandNetConv2d", "MobileOneConv2d", "DBBConv2d"]
    assert kinds[1] == ["DBBConv2d", "MobileOneConv2d", "DBBConv2d"]


def test_timms_checkpoint_of_a_wide_model_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    import_torchvision()
    monkeypatch.chdir(tmp_path)
    # timm's smallest ResNet in place of resnet18.
    models, after = (
        piece.replace('"resnet18"', '"test_resnet"').replace("resnet18_dbb", "test_resnet_dbb").replace("224", "64")
        for piece in python("timm")
    )
    (tmp_path / "wide_models.py").write_text(models)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wide_models", raising=False)
    __import__("wide_models")

    import timm
    from timm.optim import create_optimizer_v2
    from timm.utils import CheckpointSaver, ModelEmaV2

    # What train.py does with a model: optimiser, average, steps, checkpoint.
    model = timm.create_model("test_resnet_dbb", num_classes=1000)
    optimiser = create_optimizer_v2(model, "sgd", lr=0.05, weight_decay=1e-4)
    average = ModelEmaV2(model, decay=0.5)
    model.train()
    for _ in range(2):
        model(torch.randn(4, 3, 64, 64)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        average.update(model)
    folder = tmp_path / "output" / "train" / "run"
    folder.mkdir(parents=True)
    saver = CheckpointSaver(model, optimiser, model_ema=average, checkpoint_dir=str(folder), recovery_dir=str(folder))
    saver.save_checkpoint(0, metric=1.0)

    names = run(after, timm=timm, convfold=convfold, torch=torch)
    is_folded(names["plain"], names["wide"], torch.randn(2, 3, 64, 64))
    # The averaged weights were taken, not the last ones.
    taken = names["wide"].state_dict()
    assert all(torch.equal(taken[name], value) for name, value in average.module.state_dict().items())
    assert not all(torch.equal(taken[name], value) for name, value in model.state_dict().items())
    assert (tmp_path / "resnet18.pth").is_file()


def test_lightnings_module_has_the_new_parameters_and_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = ModuleType("lightning")
    lightning.LightningModule = nn.Module  # type: ignore[attr-defined]  # what the piece uses of it
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    made, plain = python("Lightning")[0].rsplit("\n\n\n", 1)
    names = run(made)
    example = torch.randn(2, 3, 16, 16)
    classifier = names["Classifier"](network(), example)
    optimiser = classifier.configure_optimizers()
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in classifier.model.parameters()}
    for images, labels in batches():
        nn.functional.cross_entropy(classifier.model(images), labels).backward()
        optimiser.step()
    found = run(plain, convfold=convfold, classifier=classifier, example=example)
    is_folded(found["plain"], classifier.model, example)


class Conv(nn.Module):
    """Ultralytics' unit: ``act(bn(conv(x)))`` until it is fused, ``act(conv(x))`` afterwards."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DetectionModel(nn.Module):
    """A list of layers under `model`, and a `fuse` that reads ``conv.weight`` and ``bn.weight``."""

    def __init__(self, cfg: object, nc: int, ch: int, verbose: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(Conv(ch, 4), Conv(4, 4), nn.Conv2d(4, nc + 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def load(self, weights: dict[str, Tensor]) -> None:
        self.load_state_dict(weights)

    def fuse(self, verbose: bool = True) -> nn.Module:
        for unit in self.modules():
            if isinstance(unit, Conv):
                unit.conv.weight.data.mul_(unit.bn.weight.data.reshape(-1, 1, 1, 1))
        return self


class DetectionTrainer:
    """The order of ``BaseTrainer._setup_train``: get_model, optimiser, EMA; at the end `fuse` on a copy."""

    def __init__(self, overrides: dict[str, object]) -> None:
        self.data, self.ema = {"nc": 3, "channels": 3}, ModuleType("ema")

    def train(self) -> None:
        torch.manual_seed(0)
        given = DetectionModel(None, 3, 3, False)
        self.model = self.get_model("yolo11n.yaml", given.state_dict(), True)  # type: ignore[attr-defined]
        x = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            assert torch.allclose(self.model.eval()(x), given.eval()(x), atol=1e-6)
        optimiser = torch.optim.SGD(self.model.train().parameters(), lr=0.1)
        self.ema.ema = copy.deepcopy(self.model).eval()
        self.model(x).square().mean().backward()
        optimiser.step()
        self.ema.ema.load_state_dict(self.model.state_dict())
        copy.deepcopy(self.ema.ema).fuse(verbose=False)


def test_ultralytics_trainer_makes_trains_and_folds_a_wide_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ultralytics", "ultralytics.models", "ultralytics.models.yolo", "ultralytics.nn"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, cls in (("models.yolo.detect", DetectionTrainer), ("nn.tasks", DetectionModel)):
        module = ModuleType(f"ultralytics.{name}")
        setattr(module, cls.__name__, cls)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    names = run(python("Ultralytics")[0].replace("640, 640", "32, 32"), __name__="__main__")
    wide = names["trainer"].ema.ema
    assert type(wide).__name__ == "WideModel"
    is_folded(names["plain"], wide, torch.randn(1, 3, 32, 32))
    assert names["plain"].model[2].weight.shape == (7, 4, 1, 1)


def test_the_plain_loop_averages_and_folds() -> None:
    model, loader = network(), batches()
    names = run(
        python("A loop of your own")[0], torch=torch, convfold=convfold, model=model, x=loader[0][0], loader=loader
    )
    is_folded(names["plain"], names["averaged"].module, loader[0][0])
    assert names["averaged"].n_averaged == 3
