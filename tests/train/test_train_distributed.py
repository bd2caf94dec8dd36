"""The processes of a training: counted, agreed, and never started one by one without a word."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from convfold.errors import ConvfoldError, InvalidArgument
from convfold.train import World, open_world
from convfold.train.synchronised import SyncedNorm, SyncedNormAct, synchronise
from convfold.zoo import load_model

RUN = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def test_without_torchrun_there_is_one_process() -> None:
    world = open_world(device="cpu", environment={})
    assert (world.rank, world.size, world.first, world.device.type) == (0, 1, True, "cpu")
    assert world.gather("a") == ["a"]
    assert world.share(3) == world.agree(lambda: 3) == 3
    assert torch.equal(world.sum(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("environment", "size", "sentence"),
    [
        ({"SLURM_NTASKS": "4"}, None, "srun starts 4 processes that do not know of one another.*torchrun"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, None, "mpirun starts 2 processes"),
        ({"PMI_SIZE": "2"}, None, "mpiexec starts 2 processes"),
        ({}, 2, "--world-size: another number of processes was started: got 1, expected 2. Start them with torchrun"),
        (RUN, 2, "--world-size: another number of processes was started: got 1, expected 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, None, "the launcher left out what processes find one another by"),
        ({**RUN, "WORLD_SIZE": "two"}, None, "WORLD_SIZE: this is no number: got 'two'"),
    ],
)
def test_a_launcher_that_starts_one_process_is_an_error(environment, size: int | None, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        open_world(size, "cpu", environment)


def test_one_process_may_be_asked_for() -> None:
    assert open_world(1, "cpu", {"SLURM_NTASKS": "4"}).size == 1
    assert open_world(1, "cpu", RUN).size == 1


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(InvalidArgument, match="this is no device to train on: got 'tpu', expected cpu or cuda"):
        open_world(device="tpu", environment={})
    if not torch.cuda.is_available():
        with pytest.raises(InvalidArgument, match="there is no GPU here"):
            open_world(device="cuda", environment={})


def test_a_process_without_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    environment = RUN | {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1"}
    with pytest.raises(
        InvalidArgument, match=r"process 5: there are more processes than GPUs: got 1 GPUs.*--nproc-per-"
    ):
        open_world(environment=environment)


def test_processes_that_do_not_meet_have_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise RuntimeError("the client socket has timed out")

    monkeypatch.setattr(dist, "init_process_group", lost)
    with pytest.raises(InvalidArgument, match=r"did not find one another \(the client socket has timed out\)"):
        open_world(None, "cpu", {**RUN, "WORLD_SIZE": "2"})


@pytest.mark.parametrize("said", ["[gloo/transport/tcp/pair.cc:500] Connection closed by peer", "NCCL error: remote"])
def test_a_lost_process_is_a_sentence_and_other_errors_stay(said: str) -> None:
    with (
        pytest.raises(ConvfoldError, match=r"process 1 of 2: another process.*ended.*--resume"),
        World(1, 2).together(),
    ):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shapes"), World(1, 2).together():
        raise RuntimeError("shapes do not fit")
    with pytest.raises(ConvfoldError, match="own"), World(1, 2).together():
        raise ConvfoldError("own gloo sentence")


class NormAct(nn.BatchNorm2d):
    """As timm's: normalises, drops and activates."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class Own(nn.BatchNorm2d):
    """A forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), NormAct(3), nn.BatchNorm2d(3, momentum=None)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((6, 2, 5, 5), (6, 3, 3, 3)))  # type: ignore[return-value]


def trained(model: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Two passes with gradients, and what the model then gives in eval mode."""
    x, weights = data()
    for _ in range(2):
        (model(x[rows]) * weights[rows]).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    found |= {f"buffer {name}": b for name, b in model.named_buffers()}
    return {**found, "output": model.eval()(x).detach()}


def half(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    environment = RUN | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    os.environ.update(environment)
    world = open_world(2, "cpu", environment)
    model = layers()
    assert synchronise(model) == []
    found = trained(model, slice(rank, None, 2))
    for name, value in found.items():
        if not name.startswith(("buffer", "output")):
            found[name] = world.sum(value)
    torch.save(found, Path(folder) / f"{rank}.pt")
    assert world.gather(rank) == [0, 1]
    assert world.share(rank) == 0
    # Only the second process has a problem: the first says it, the second leaves without a word.
    said = ""
    try:
        world.agree(lambda: fail() if rank == 1 else None)
    except ConvfoldError as error:
        said = str(error)
    except SystemExit as error:
        said = f"exit {error.code}"
    (Path(folder) / f"{rank}.txt").write_text(said)
    world.close()


def fail() -> None:
    raise ConvfoldError("the disk is full", where="checkpoint", hint="Make room.")


def test_two_processes_normalise_and_agree_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(half, args=(port, str(tmp_path)), nprocs=2)
    expected = trained(layers(), slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        largest = max(float(value.abs().max()) for value in expected.values())
        for name, value in expected.items():
            # Relative to the largest of all: a gradient may cancel to zero before a normalisation.
            assert float((found[name] - value).abs().max()) <= 1e-12 * largest, name
    assert (tmp_path / "0.txt").read_text() == "process 1: checkpoint: the disk is full. Make room."
    assert (tmp_path / "1.txt").read_text() == "exit 2"


def test_alone_a_synchronised_norm_is_the_norm() -> None:
    model = layers()
    synchronise(model)
    assert (type(model[0]), type(model[2])) == (SyncedNorm, SyncedNormAct)
    expected, found = trained(layers(), slice(None)), trained(model, slice(None))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert model.state_dict().keys() == layers().state_dict().keys()


def test_a_norm_of_another_class_is_left_and_named() -> None:
    assert synchronise(nn.Sequential(Own(3), nn.BatchNorm2d(3))) == ["0"]


def test_a_norm_with_two_names_is_one_norm_still() -> None:
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm)
    assert synchronise(model) == []
    assert type(model[0]) is SyncedNorm
    assert model[2] is model[0]


def test_timms_norms_are_known() -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    model = load_model("timm:mobilenetv3_small_050", num_classes=3)
    assert synchronise(model) == []
    assert sum(isinstance(m, SyncedNormAct) for m in model.modules()) > 10
