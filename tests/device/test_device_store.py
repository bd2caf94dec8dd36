"""A device as a file: what is written is read back; damage and other machines are told in a sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convfold
from convfold.cost.device.place import cache_folder, here
from convfold.cost.roofline import Device, layer_seconds, stored
from convfold.errors import ConvfoldWarning, FileProblem
from device.machines import machine


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convfold"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    device = machine()
    path = device.save(tmp_path / "new" / "device.json")
    assert path == tmp_path / "new" / "device.json"
    assert Device.load(path) == device
    assert device.foreign() == ""


def test_by_default_it_lies_where_it_is_looked_for(cache: Path) -> None:
    assert stored() is None
    path = machine().save()
    assert path.parent == cache == cache_folder()
    assert path.name.startswith("device-")
    assert path.suffix == ".json"
    assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
    assert stored() == machine()
    # Another precision is another measurement.
    assert stored(dtype=torch.float64) is None


def test_another_number_of_threads_is_another_file() -> None:
    before = torch.get_num_threads()
    names = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            names.append(here(torch.device("cpu")).file_name)
    finally:
        torch.set_num_threads(before)
    assert len(set(names)) == 2


def _without(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != key}


DAMAGE = {
    "empty": lambda found: "",
    "cut off": lambda found: json.dumps(found)[:-40],
    "a list": lambda found: "[1, 2]",
    "no place": lambda found: json.dumps(_without(found, "place")),
    "a kind is missing": lambda found: json.dumps({**found, "laws": _without(found["laws"], "depthwise")}),
    "no error over all": lambda found: json.dumps({**found, "errors": _without(found["errors"], "all")}),
    "a word for a number": lambda found: json.dumps({**found, "roofs": {**found["roofs"], "peak": "fast"}}),
    "not a number": lambda found: json.dumps({**found, "roofs": {**found["roofs"], "bandwidth": float("nan")}}),
    "no seconds": lambda found: json.dumps(
        {**found, "laws": {**found["laws"], "dense": {"overhead": 0, "byte": 0, "mac": 0}}}
    ),
    "negative seconds": lambda found: json.dumps(
        {**found, "laws": {**found["laws"], "dense": {"overhead": 1, "byte": -1e-9, "mac": 0}}}
    ),
    "better than exact": lambda found: json.dumps(
        {**found, "errors": {**found["errors"], "all": {**found["errors"]["all"], "most": 0.5}}}
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_told(what: str, tmp_path: Path) -> None:
    path = machine().save(tmp_path / "device.json")
    path.write_text(DAMAGE[what](json.loads(path.read_text())))
    with pytest.raises(FileProblem) as caught:
        Device.load(path)
    assert str(caught.value) == (
        f"{path}: not the measurement of a device, or damaged. Make it anew by convfold bench device."
    )


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"gone\.json: cannot read \(no such file or directory\)"):
        Device.load(tmp_path / "gone.json")


def test_a_damaged_file_in_the_cache_is_not_used_and_told() -> None:
    machine().save().write_text("{")
    with pytest.warns(ConvfoldWarning, match="not the measurement of a device, or damaged"):
        assert stored() is None


def test_another_machine_s_file_is_told() -> None:
    other = replace(machine(), place=replace(machine().place, machine="Abacus", threads=7))
    assert other.foreign().startswith("measured on Abacus, cpu, 7 threads, float32, torch ")
    assert f"; this is {machine().place}" in other.foreign()
    # Under this one's name, as a cache that was copied has it.
    other.save(cache_folder() / machine().place.file_name)
    with pytest.warns(ConvfoldWarning, match="it is not used: measured on Abacus"):
        assert stored() is None


def test_layers_have_seconds_where_the_machine_was_measured() -> None:
    model, x = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval(), torch.randn(1, 4, 6, 6)
    report = convfold.cost(model, x)
    assert layer_seconds(report, model) is None
    machine().save()
    assert layer_seconds(report, model) == machine().latency(report, model) == layer_seconds(report)
    assert layer_seconds(report, model.double()) is None
