"""A checkpoint is whole or is the one before; what is read is what was written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convfold.errors import FileProblem
from convfold.train.checkpoint import Checkpoint, read_checkpoint, restore_optimiser, write_checkpoint
from support.training import tiny


def stepped(kind: type[torch.optim.Optimizer], layout: torch.memory_format = torch.contiguous_format, **options: float):
    torch.manual_seed(0)
    model: nn.Module = tiny().to(memory_format=layout)
    optimiser = kind(model.parameters(), lr=0.1, **options)  # type: ignore[call-arg]
    step(model, optimiser)
    return model, optimiser


def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    model(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    optimiser.step()


def made(model: nn.Module, optimiser: torch.optim.Optimizer, epoch: int = 3) -> Checkpoint:
    tensors, plain = Checkpoint.of_optimiser(optimiser, scaler={})
    return Checkpoint(epoch, {"a": 1}, {"torch": "x"}, [{"epoch": 1}], model.state_dict(), {}, tensors, plain)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("kind", "options"), [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})])
def test_an_optimiser_goes_on_bit_for_bit(tmp_path: Path, kind, options, layout: torch.memory_format) -> None:
    model, optimiser = stepped(kind, layout, **options)
    write_checkpoint(tmp_path / "c.safetensors", made(model, optimiser))
    read = read_checkpoint(tmp_path / "c.safetensors")
    assert (read.epoch, read.identity, read.history) == (3, {"a": 1}, [{"epoch": 1}])
    other: nn.Module = tiny().to(memory_format=layout)
    other.load_state_dict(read.model)
    fresh = kind(other.parameters(), lr=0.7)
    restore_optimiser(fresh, read)
    assert fresh.param_groups[0]["lr"] == 0.1
    for values, parameter in ((values, parameter) for parameter, values in fresh.state.items()):
        held = [value for value in values.values() if value.shape == parameter.shape]
        assert held
        assert all(value.stride() == parameter.stride() for value in held)
    for _ in range(3):
        step(model, optimiser)
        step(other, fresh)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_the_same_checkpoint_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, made(*stepped(torch.optim.AdamW)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    write_checkpoint(tmp_path / "c", made(model, torch.optim.SGD(model.parameters(), lr=0.1)))
    assert torch.equal(read_checkpoint(tmp_path / "c").model["1.weight"], model[0].weight)


@pytest.mark.parametrize(("cut", "sentence"), [(0.5, "this checkpoint does not load"), (0.0, "does not load")])
def test_a_damaged_file_has_a_sentence(tmp_path: Path, cut: float, sentence: str) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, made(*stepped(torch.optim.SGD)))
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(FileProblem, match=f"{sentence}.*Take it away to begin anew"):
        read_checkpoint(path)


def test_weights_are_no_checkpoint(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(FileProblem, match=r"this is no checkpoint of convfold train.*--weights"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    model, optimiser = stepped(torch.optim.SGD)
    write_checkpoint(path, made(model, optimiser, 3))
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        FileProblem, match=r"c.safetensors: cannot write \(no space left on device\). The checkpoint before"
    ):
        write_checkpoint(path, made(model, optimiser, 4))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_a_limit_of_the_system_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """The real thing: the kernel refuses the bytes."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "c.safetensors"
    model, optimiser = stepped(torch.optim.SGD)
    write_checkpoint(path, made(model, optimiser, 3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(FileProblem) as caught:
            write_checkpoint(path, made(model, optimiser, 4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write (file too large). The checkpoint before this one is whole" in str(caught.value)
    assert read_checkpoint(path).epoch == 3
    assert os.listdir(tmp_path) == ["c.safetensors"]
