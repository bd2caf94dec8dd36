"""The objectives beside MACs: fewer operators at any price, and fewer seconds, by a clock that the tests set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import convfold
from convfold import blocks
from convfold.graph.maps import Map
from convfold.graph.program import Linear, Program, Term, Value
from convfold.plan.search import latency
from transform.models import noise, relative, seeded

Clock = Callable[[Any, tuple[Any, ...]], float]
X = noise(2, 8, 7, 9)


class DepthwisePointwise(nn.Sequential):
    """A separable convolution: 9 + 8 MACs for each value, or 72 as one kernel."""

    def __init__(self) -> None:
        depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        super().__init__(nn.ReLU(), depthwise, nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.ReLU())


class Bottleneck(nn.Sequential):
    """A kernel of rank two as two factors."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), nn.BatchNorm2d(8), nn.ReLU())


class Expand(nn.Module):
    """Fire's two kernels over the squeezed maps: as one, the pointwise half becomes 3x3 too."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.point, self.wide = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.squeeze(x).relu()
        return torch.cat([self.point(y), self.wide(y)], 1).relu()


class Widens(nn.Sequential):
    """Two 3x3 kernels over eight times the channels: one of 5x5 has fewer MACs."""

    def __init__(self) -> None:
        super().__init__(nn.ReLU(), nn.Conv2d(8, 64, 3, bias=False), nn.Conv2d(64, 8, 3), nn.ReLU())


class Everything(nn.Module):
    """A definition of every kind that is timed: dense, transposed, uneven, pooled, selected, joined, pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(8, 3)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.up(x)).relu()
        y = self.left(F.pad(y, (1, 0, 1, 0))) + self.right(F.pad(y, (1, 0, 1, 0)))
        y = torch.cat([y, F.avg_pool2d(y, 3, 1, 1)[:, self.order]], 1).relu()
        return self.last(y.mean((2, 3)) * 0.5)


# model, and how many operators are left of how many
FEWER: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "depthwise and pointwise": (DepthwisePointwise, 5, 3),
    "a linear bottleneck": (Bottleneck, 5, 3),
    "Fire's expand": (Expand, 6, 4),
    "the block Fire": (lambda: nn.Sequential(nn.ReLU(), blocks.build("fire", 2, 8, 8, 3, padding=1)), 4, 2),
}


class Executed(TorchDispatchMode):
    """What runs, in seconds of a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.seconds = clock, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seconds += self.clock(func, args)
        return func(*args, **(kwargs or {}))


def calls(func: Any, args: tuple[Any, ...]) -> float:
    """A second for each operator, whatever it does."""
    return 1.0


def products(func: Any, args: tuple[Any, ...]) -> float:
    """A second for each tap of a convolution's kernel, and hardly anything else."""
    return float(args[1].numel()) if func.overloadpacket is torch.ops.aten.convolution else 1e-3


def large_kernels_are_slow(func: Any, args: tuple[Any, ...]) -> float:
    return 100.0 if func.overloadpacket is torch.ops.aten.convolution and args[1].shape[-1] > 3 else 1.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convfold" / "latency.json"


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """Every measurement is told by `clock`; the list grows with each."""
    taken: list[float] = []

    def median(run: Callable[[], Any], device: torch.device) -> float:
        with Executed(clock) as executed:
            run()
        taken.append(executed.seconds)
        return executed.seconds

    monkeypatch.setattr(latency, "_median", median)
    return taken


def planned(model: nn.Module, objective: str) -> Any:
    plan = convfold.plan(model, X, objective)
    plain = plan.apply()
    assert relative(plain(X), model(X)) <= 1e-12
    assert all(plan.certificates.values())
    return plan


# --- operators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FEWER)
def test_operators_fall_where_macs_would_rise(name: str) -> None:
    make, before, after = FEWER[name]
    model = seeded(make())
    plan = planned(model, "ops")
    assert (plan.before.operators, plan.after.operators) == (before, after)
    assert plan.after.macs > plan.before.macs
    left = planned(model, "macs")
    assert left.after.operators > after
    assert left.after.macs <= left.before.macs
    assert left.after.convolutions == left.before.convolutions


def test_of_equally_many_operators_the_fewer_macs_are_taken() -> None:
    plan = planned(seeded(Widens()), "ops")
    assert plan.after.operators == plan.before.operators - 1
    assert plan.after.macs < plan.before.macs


# --- seconds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [DepthwisePointwise, Bottleneck, Expand])
def test_the_choice_follows_the_times(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    model = seeded(make())
    set_clock(monkeypatch, calls)
    fast = planned(model, "latency")
    assert fast.after.convolutions == fast.before.convolutions - 1
    assert fast.after.macs > fast.before.macs
    cache.unlink()
    set_clock(monkeypatch, products)
    slow = planned(model, "latency")
    assert slow.after.convolutions == slow.before.convolutions
    assert slow.after.macs <= slow.before.macs


def test_what_saves_macs_and_costs_seconds_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(Widens())
    assert planned(model, "macs").after.convolutions == 1
    set_clock(monkeypatch, large_kernels_are_slow)
    assert planned(model, "latency").after.convolutions == 2


def test_times_are_kept_and_not_taken_again(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    model = seeded(DepthwisePointwise())
    taken = set_clock(monkeypatch, calls)
    first = planned(model, "latency")
    held = json.loads(cache.read_text())
    assert len(held) == len(taken) > 0
    assert set(held.values()) <= {1.0, 2.0}
    assert all("torch.float64" in key and torch.__version__ in key for key in held)
    again = set_clock(monkeypatch, products)  # another clock, which nobody asks
    assert str(planned(model, "latency")) == str(first)
    assert again == []
    # Another precision is another measurement, kept beside the first.
    convfold.plan(model.float(), X.float(), "latency")
    assert again
    assert json.loads(cache.read_text()).items() > held.items()


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": "fast"}', '{"a": null}', '{"a": [1]}', "\udcff\udcfe"])
def test_a_broken_cache_is_made_anew(text: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text, errors="surrogateescape")
    taken = set_clock(monkeypatch, calls)
    assert planned(seeded(Bottleneck()), "latency").after.convolutions == 1
    assert len(json.loads(cache.read_text())) == len(taken)


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1.0"])
def test_times_that_none_can_be_are_taken_anew(seconds: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    model = seeded(DepthwisePointwise())
    set_clock(monkeypatch, calls)
    first = planned(model, "latency")
    keys = json.loads(cache.read_text())
    cache.write_text("{" + ", ".join(f"{json.dumps(key)}: {seconds}" for key in keys) + "}")
    assert str(planned(model, "latency")) == str(first)
    assert json.loads(cache.read_text()) == keys


def test_without_a_place_for_the_cache_times_are_taken_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        taken = set_clock(monkeypatch, calls)
        assert planned(seeded(Bottleneck()), "latency").after.convolutions == 1
        assert taken


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    "shape", [(2, 8), (2, 8, 5), (2, 8, 5, 7), (8, 5, 7), (2, 3, 8), (2, 3, 8, 5), (2, 8, 1, 2, 3, 4)]
)
def test_a_map_of_the_channels_alone_is_timed_wherever_they_are(
    shape: tuple[int, ...], groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def median(run: Callable[[], Any], device: torch.device) -> float:
        seen.append(tuple(run().shape))
        return 1.0

    monkeypatch.setattr(latency, "_median", median)
    axis, program = shape.index(8), Program()
    after = (*shape[:axis], 6, *shape[axis + 1 :])
    source = program.add(Value(shape))
    node = Linear((Term(Map("conv", 6, 8, axis, groups=groups), source),))
    number = program.add(Value(after), node)
    assert latency.Stopwatch(torch.device("cpu"), torch.float32)(program, number, node, False).seconds == 1.0
    assert seen == [after]


def test_by_the_real_clock_every_kind_of_definition_is_timed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 1)
    monkeypatch.setattr(latency, "LEAST", 0.0)
    # What is chosen depends on the machine; that it is the same function does not.
    planned(seeded(Everything()), "latency")
    held = json.loads(cache.read_text())
    assert all(seconds > 0 for seconds in held.values())
    labels = {key.split(" | ")[2].split()[0] for key in held}
    assert labels >= {"conv", "transposed", "pool", "select", "cat", "add", "linear"}
