"""A folded model lives on: it trains with its dropout alive, is saved, compiled, exported, and runs elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.zoo import import_torchvision
from transform.models import noise, randomise_gently, relative

pytestmark = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None, reason="the extra [zoo] is not installed"
)


def timm(name: str) -> nn.Module:
    """A model of timm's with at most two blocks to a stage."""
    import_torchvision()
    from timm import create_model

    model: Any = create_model(name, num_classes=5, drop_rate=0.3)
    for stage in model.stages:
        del stage[2:]
    return model


def googlenet() -> nn.Module:
    return import_torchvision().models.googlenet(num_classes=5, aux_logits=False, init_weights=False, dropout=0.3)


def densenet() -> nn.Module:
    """Two blocks of DenseNet; its layers drop by a function, not by a module."""
    models = import_torchvision().models
    return models.DenseNet(8, (2, 3), num_init_features=16, drop_rate=0.3, num_classes=5)


def diverse() -> nn.Module:
    """Two diverse branch blocks of ours."""
    dbb = [blocks.build("dbb", 2, inputs, 8, 3, padding=1) for inputs in (3, 8)]
    layers = [dbb[0], nn.ReLU(), nn.Dropout2d(0.3), nn.MaxPool2d(2), dbb[1], nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 5))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "repvgg": lambda: timm("repvgg_a0"),
    "mobileone": lambda: timm("mobileone_s0"),
    "googlenet": googlenet,
    "densenet": densenet,
    "diverse branches": diverse,
}


class Folded(NamedTuple):
    """A model in float64 with nothing of it at its start, its fold, and an input."""

    model: nn.Module
    plain: nn.Module
    x: Tensor


@pytest.fixture(scope="module", params=MODELS)
def folded(request: pytest.FixtureRequest) -> Folded:
    torch.manual_seed(0)
    model, x = randomise_gently(MODELS[request.param]().double()).eval(), noise(2, 3, 64, 64)
    plain = convfold.fold(model, x)
    with torch.no_grad():
        assert relative(plain(x), model(x)) <= 1e-12
        assert convfold.cost(plain, x).operators < convfold.cost(model, x).operators
    return Folded(model, plain, x)


def drops(model: nn.Module) -> list[tuple[str, bool]]:
    """The layers that drop something, and whether they do."""
    kinds = nn.modules.dropout._DropoutNd
    return [(name, module.training) for name, module in model.named_modules() if isinstance(module, kinds) and module.p]


def stepped(model: nn.Module, x: Tensor) -> nn.Module:
    """A copy after one step of training, in eval mode again."""
    torch.manual_seed(1)
    model = copy.deepcopy(model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    nn.functional.cross_entropy(model(x), torch.tensor([1, 4])).backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) >= 0.9 * len(before)
    return model.eval()


def test_train_wakes_every_dropout(folded: Folded) -> None:
    plain = copy.deepcopy(folded.plain)
    assert [name for name, _ in drops(plain)] == [name for name, _ in drops(folded.model)]
    assert not any(training for _, training in drops(plain))
    plain.train()
    assert all(module.training for module in plain.modules())
    # What norms are left take their statistics from the batch: only a dropout, by a module or by a function (as in
    # DenseNet), makes two runs differ.
    with torch.no_grad():
        assert not torch.equal(plain(folded.x), plain(folded.x))
        plain.load_state_dict(folded.plain.state_dict())
        assert torch.equal(plain.eval()(folded.x), folded.plain(folded.x))


def test_one_step_of_training_changes_the_function(folded: Folded) -> None:
    after = stepped(folded.plain, folded.x)
    with torch.no_grad():
        y = after(folded.x)
        assert bool(y.isfinite().all())
        assert relative(y, folded.plain(folded.x)) > 1e-9
    # The fold itself is as it was, and so is the model.
    with torch.no_grad():
        assert relative(folded.plain(folded.x), folded.model(folded.x)) <= 1e-12


def test_the_state_goes_to_a_file_and_back(folded: Folded, tmp_path: Path) -> None:
    trained = stepped(folded.plain, folded.x)
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    fresh = copy.deepcopy(folded.plain)
    with torch.no_grad():
        for tensor in (*fresh.parameters(), *fresh.buffers()):
            tensor.fill_(1)
        fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(fresh(folded.x), trained(folded.x))


def test_torch_compile_reads_it(folded: Folded) -> None:
    torch.compiler.reset()
    compiled: Any = torch.compile(folded.plain, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert relative(compiled(folded.x), folded.plain(folded.x)) <= 1e-12


def test_torch_export_reads_it(folded: Folded) -> None:
    program = torch.export.export(folded.plain, (folded.x,))
    with torch.no_grad():
        assert relative(program.module()(folded.x), folded.plain(folded.x)) <= 1e-12


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_gives_the_same(folded: Folded, tmp_path: Path) -> None:
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    from onnxruntime import InferenceSession

    plain, x, file = copy.deepcopy(folded.plain).float(), folded.x.float(), str(tmp_path / "plain.onnx")
    torch.onnx.export(plain, (x,), file, dynamo=False, opset_version=17)
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        # Held to what the original's own float32 is apart from its float64, with room for another order of sums.
        rounding = relative(plain(x).double(), folded.plain(folded.x))
        assert relative(torch.from_numpy(y).double(), plain(x).double()) <= max(20 * rounding, 1e-5)
