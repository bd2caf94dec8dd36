"""What the verbs write: forms of a folded model that compute the same, explanations, reports, and progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from convfold import load_plan, verify
from convfold.cli import fold as fold_verb
from convfold.cli import progress, run
from convfold.cli.models import Objective
from convfold.errors import NotEqual
from convfold.plan.by_graph import OBJECTIVES
from convfold.transform.ship import check_target, save_onnx, save_pt2
from convfold.transform.ship.program import export
from convfold.zoo import read_program
from support.make import randomise

HERE = "tests.cli.test_outputs"
SHAPE = "1x3x13x12"
INPUT = ("--input", SHAPE)


class Net(nn.Module):
    """Branches that only the forward shows, a tied weight, dropout, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.Conv2d(3, 6, 1)
        self.first, self.second = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.tied, self.again = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.again.weight = self.tied.weight
        self.dropout, self.head = nn.Dropout(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(self.wide(x)) + self.second(self.narrow(x)))
        x = torch.relu(self.again(torch.relu(self.tied(x))))
        return self.head(self.dropout(x.mean((2, 3))))


def net(seed: int = 0) -> nn.Module:
    return randomise(Net(), torch.Generator().manual_seed(seed)).eval()


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to what single precision makes of a batch normalisation with a tiny variance."""
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


def folded(out: Path, capfd: pytest.CaptureFixture[str], *more: str, model: str = f"{HERE}:net") -> str:
    """Fold into `out`; returns the last line that was printed."""
    inputs = () if model.endswith(".pt2") else INPUT
    assert run(["fold", model, *inputs, "--out", str(out), *more]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    assert not list(out.parent.glob(".*")), "nothing is left beside"
    return said.out.splitlines()[-1]


def test_a_program_is_written_read_and_folded_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.pt2"
    last = folded(out, capfd)
    assert "convolutions 5 -> 4, operators" in last
    assert last.endswith(f"written: {out} (for inputs of Nx3x13x12)")
    program = torch.export.load(out)
    assert program.example_inputs[0][0].shape == (1, 3, 13, 12)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 13, 12)
        assert close(program.module()(x), net()(x))
    assert run(["verify", f"{HERE}:net", str(out)]) == 0
    assert run(["verify", str(out), f"{HERE}:net"]) == 0
    assert capfd.readouterr().out.count("equal: error") == 2
    again = tmp_path / "again.pt2"
    assert "convolutions 4 -> 4" in folded(again, capfd, model=str(out))
    assert run(["verify", str(out), str(again)]) == 0


def test_a_users_program_is_folded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.pt2"
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
    model = randomise(model, torch.Generator().manual_seed(1)).eval()
    batch = torch.export.Dim("batch", min=1)
    x = torch.randn(2, 3, 9, 9)
    torch.export.save(torch.export.export(model, (), {"input": x}, dynamic_shapes={"input": {0: batch}}), source)
    last = folded(tmp_path / "out", capfd, model=str(source))
    assert "operators 4 -> 3" in last
    assert run(["verify", str(source), str(tmp_path / "out")]) == 0
    program = read_program(source)
    plain = load_plan(tmp_path / "out" / "plan.json").apply(program.model)
    plain.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    assert isinstance(plain.get_submodule("0"), nn.Conv2d)
    assert close(plain(input=x), model(x))


def test_onnx_is_written_and_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    out = tmp_path / "net.onnx"
    assert folded(out, capfd).endswith(f"{out} (for inputs of Nx3x13x12, equal in ONNX Runtime)")
    kinds = [node.op_type for node in onnx.load(out).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 3
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 13, 12)
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert close(torch.from_numpy(got), net()(x))


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_loaded_into_a_fresh_model(tmp_path: Path, capfd: pytest.CaptureFixture[str], there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "notes.txt").write_text("kept")
        (out / "plan.json").write_text("old")
    assert folded(out, capfd).endswith(f"written: {out} (plan.json and model.safetensors)")
    assert {path.name for path in out.iterdir()} == {"plan.json", "model.safetensors"} | (
        {"notes.txt"} if there else set()
    )
    assert (out / "plan.json").stat().st_mode == (out / "model.safetensors").stat().st_mode
    plan = load_plan(out / "plan.json")
    plain = plan.apply(net())
    plain.load_state_dict(load_file(out / "model.safetensors"))
    assert verify(net(), plain.eval(), torch.randn(1, 3, 13, 12))
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(plan.keys.values()) <= set(plain.state_dict())
    assert run(["verify", f"{HERE}:net", str(out), *INPUT]) == 0
    assert run(["verify", "tests.cli.test_verbs:wide", str(out), *INPUT]) == 2


def test_a_fold_that_is_not_equal_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold_verb, "verify", lambda a, b, inputs: verify(a, net(5), inputs))
    for out in ("net.pt2", "net.onnx", "net"):
        line = ["fold", f"{HERE}:net", *INPUT, "--out", str(tmp_path / out), "--report", str(tmp_path / "r.html")]
        assert run(line) == 1
        assert "NOT EQUAL" in capfd.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("save", [save_pt2, save_onnx])
def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, save, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    module = "pt2_file" if save is save_pt2 else "onnx_file"
    monkeypatch.setattr(f"convfold.transform.ship.{module}.export", lambda model, given: export(net(1), given))
    with pytest.raises(NotEqual, match="it was not kept"):
        save(net(), torch.randn(1, 3, 13, 12), tmp_path / f"net.{save.__name__[5:]}")
    assert not list(tmp_path.iterdir())


class Pairs(nn.Module):
    """A model whose batch is fixed: it adds the two rows."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x
        return first + second


def test_a_fixed_batch_is_said(tmp_path: Path) -> None:
    assert save_pt2(Pairs(), torch.randn(2, 3), tmp_path / "pairs.pt2") == "for inputs of 2x3"


def test_a_mode_is_left_as_it_was(tmp_path: Path) -> None:
    model = net().train()
    model.first.eval()
    save_pt2(model, torch.randn(1, 3, 13, 12), tmp_path / "net.pt2")
    assert model.training
    assert not model.first.training


def test_plan_explains(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    files = {name: str(tmp_path / f"net.{name}") for name in ("json", "html", "plan")}
    line = ["plan", f"{HERE}:net", *INPUT, "--explain", "--json", files["json"], "--report", files["html"]]
    assert run([*line, "--out", files["plan"], "--objective", "ops"]) == 0
    said = capfd.readouterr().out
    assert "folded into" in said
    assert all(f"written: {path}" in said for path in files.values())
    explanation = json.loads(Path(files["json"]).read_text())
    assert explanation["model"] == f"{HERE}:net"
    assert explanation["objective"] == "ops"
    assert {"wide", "narrow"} <= {row["module"] for row in explanation["operators"]}
    assert "narrow" in Path(files["html"]).read_text()
    assert load_plan(files["plan"]).objective == "ops"


def test_every_objective_is_offered() -> None:
    assert [aim.value for aim in Objective] == list(OBJECTIVES)


def test_a_target_leaves_nothing_behind(tmp_path: Path) -> None:
    check_target(tmp_path / "new", folder=True)
    check_target(tmp_path / "new.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("terminal", [True, False])
def test_stages_are_shown_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "Console", lambda **kwargs: Console(stderr=True, force_terminal=terminal, width=100))
    assert run(["cost", f"{HERE}:net", *INPUT]) == 0
    out, err = capfd.readouterr()
    assert "MACs" in out
    assert ("counting" in err) is terminal
    assert "counting" not in out


def test_the_same_name_is_the_same_model() -> None:
    name = "torchvision:squeezenet1_1"
    assert run(["verify", name, name, "--input", "1x3x32x32"]) == 0


class Named(nn.Module):
    """Outputs in a dict whose keys are `keys`; the last is a pair."""

    def __init__(self, *keys: str) -> None:
        super().__init__()
        self.keys = keys

    def forward(self, x: Tensor) -> dict[str, object]:
        *some, last = self.keys
        return {**{key: x * index for index, key in enumerate(some)}, last: (x + 1, x + 2)}


@pytest.mark.parametrize(
    ("keys", "names"),
    [(("maps", "p3.box", "x"), ["maps", "p3_box", "x_0", "x_1"]), (("x", "b"), ["x_out", "b_0", "b_1"])],
)
def test_an_onnx_file_names_its_outputs_by_the_keys_of_a_dict(tmp_path: Path, keys, names) -> None:
    onnx = pytest.importorskip("onnx")
    save_onnx(Named(*keys), torch.randn(2, 3), tmp_path / "named.onnx")
    assert [out.name for out in onnx.load(tmp_path / "named.onnx").graph.output] == names


def test_keys_that_name_no_output_apart_are_left_out(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    save_onnx(Named("a.b", "a b", "c"), torch.randn(2, 3), tmp_path / "named.onnx")
    names = [out.name for out in onnx.load(tmp_path / "named.onnx").graph.output]
    assert len(set(names)) == 4
    assert "a_b" not in names
