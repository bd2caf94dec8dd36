"""Saved plans of whole graphs: every structure that emission makes comes back, and nothing else is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import convfold
from convfold import blocks
from convfold.errors import FileProblem, InvalidArgument
from transform.models import noise, relative, seeded

X = noise(2, 4, 9, 9)


class Branches(nn.Module):
    """Two branches that add up, with scales of its own, a norm written by hand and a padding that is not even."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.scale, self.shift = nn.Parameter(torch.rand(6, 1, 1) + 0.5), nn.Parameter(torch.randn(6, 1, 1))
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.norm(self.left(x) + self.right(x)) * self.scale + self.shift
        return {"y": y, "last": self.last(F.pad(y.relu(), (1, 0, 1, 0)))}


class Bordered(nn.Module):
    """A bias before a zero padding: it falls off at the border."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).relu()


class Uneven(nn.Module):
    """A padding in front of a convolution that no convolution holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 4, 3, 2), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).relu()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "branches": Branches,
    "bordered": Bordered,
    "uneven": Uneven,
    "same structure": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU()),
    "block": lambda: nn.Sequential(nn.ReLU(), blocks.ACNetConv2d(4, 4, 3), nn.ReLU()),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_fold_made_comes_back_from_a_file(name: str, tmp_path: Path) -> None:
    model = seeded(MODELS[name]())
    plan = convfold.plan(model, X)
    assert plan.regions
    plan.save(tmp_path / "plan.json")
    plain = plan.apply()
    structure: Any = convfold.load_plan(tmp_path / "plan.json").apply(seeded(MODELS[name]()))
    assert repr(structure) == repr(plain)
    assert structure.state_dict().keys() == plain.state_dict().keys()
    changed = [n for n, t in plain.state_dict().items() if n not in model.state_dict() and t.is_floating_point()]
    assert all(bool(structure.state_dict()[n].isnan().any()) for n in changed)
    structure.load_state_dict(plain.state_dict())
    for got, expected in zip(tree_leaves(structure.eval()(X)), tree_leaves(model(X)), strict=True):
        assert relative(got, expected) <= 1e-12


def test_a_convolution_that_only_changed_its_numbers_comes_back_without_numbers(tmp_path: Path) -> None:
    model = seeded(MODELS["same structure"]())
    convfold.plan(model, X).save(tmp_path / "plan.json")
    structure = convfold.load_plan(tmp_path / "plan.json").apply(model)
    assert bool(structure.state_dict()["2.weight"].isnan().all())


def evil(line: str) -> str:
    return f"def forward(self, x):\n    {line}\n    return x\n"


FORWARDS = {
    "an import": "import os\n\n\ndef forward(self, x):\n    return x\n",
    "an import of what holds nothing": "from subprocess import Popen\n\n\ndef forward(self, x):\n    return x\n",
    "an inner import": evil("import os"),
    "dunder": evil("y = x.__class__"),
    "underscore": evil("y = self._modules"),
    "mro": evil("y = ().__class__.__bases__[0].__subclasses__()"),
    "open": evil("open('file', 'w')"),
    "exec": evil("exec('1')"),
    "eval": evil("y = eval('1')"),
    "torch.load": evil("y = torch.load('weights.pt')"),
    "a module of torch": evil("y = torch.serialization"),
    "an operator that opens a file": evil("y = torch.ops.aten.from_file.default('file', True, 8)"),
    "an operator that writes": evil("torch.ops.aten.add_.Tensor(self.left.weight, 1)"),
    "operators of others": evil("torch.ops.load_library('lib.so')"),
    "a method of the module": evil("self.load_state_dict({})"),
    "a method of a tensor": evil("x.numpy().tofile('file')"),
    "a method called later": evil("f = x.tolist\n    f()"),
    "getattr": evil("y = getattr(x, '__class__')"),
    "getattr of what it holds not": evil("y = getattr(self, 'register_buffer')"),
    "a function inside": evil("y = (lambda: x)()"),
    "a loop": evil("while True: pass"),
    "a comprehension": evil("y = [z for z in x]"),
    "an assignment to the module": evil("self.left = x"),
    "an f-string": evil("y = f'{x}'"),
    "a decorator": "@torch.no_grad\ndef forward(self, x):\n    return x\n",
    "a default that runs": "def forward(self, x=exec('1')):\n    return x\n",
    "an annotation that runs": "def forward(self, x: exec('1')):\n    return x\n",
    "another function": "def other(self, x):\n    return x\n",
    "a class": "class forward:\n    pass\n",
    "two functions": "def other(x):\n    return x\n\n\ndef forward(self, x):\n    return other(x)\n",
    "a shadowed builtin": evil("float = x"),
    "nothing": "",
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_that_no_fold_writes_is_not_run(name: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    convfold.plan(seeded(Branches()), X).save(path)
    fields = json.loads(path.read_text())
    (rewritten,) = [change for change in fields["changes"] if "forward" in change]
    rewritten["forward"] = FORWARDS[name]
    path.write_text(json.dumps(fields))
    message = "the forward of a saved plan holds something that no fold writes: got .+, expected .+ Do not use this"
    with pytest.raises(InvalidArgument, match=message):
        convfold.load_plan(path).apply(seeded(Branches()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"made": "Popen", "arguments": {}}, "a fold makes no such module: got 'Popen'"),
        ({"made": "Conv2d", "arguments": {"channels": 2}, "dtype": "float32"}, "no Conv2d can be made of this"),
        ({"made": "Linear", "arguments": {}, "dtype": "load"}, "torch has no such type of numbers: got 'load'"),
        ({"forward": "def forward(self x)"}, "the forward of a saved plan is no Python"),
        ({"forward": "def forward(self, x):\n    return x\n", "tensors": {"left": {}}}, "a module that has 'left' al"),
    ],
    ids=["class", "arguments", "dtype", "syntax", "name"],
)
def test_a_structure_that_no_fold_makes_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    convfold.plan(seeded(Branches()), X).save(path)
    fields = json.loads(path.read_text())
    place = {"path": "", "was": "Branches", "tensors": {}, "gone": [], "training": False}
    fields["changes"] = [{**place, **change}]
    path.write_text(json.dumps(fields))
    with pytest.raises(InvalidArgument, match=message):
        convfold.load_plan(path).apply(seeded(Branches()))


def test_changes_that_are_none_are_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    convfold.plan(seeded(Branches()), X).save(path)
    fields = json.loads(path.read_text())
    for changes in ([3], [{"path": "left"}], [{"path": 1, "was": "", "made": "Identity"}]):
        path.write_text(json.dumps({**fields, "changes": changes}))
        with pytest.raises(FileProblem, match="this is no saved plan"):
            convfold.load_plan(path)
