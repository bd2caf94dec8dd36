"""``convfold bench fold`` and ``convfold bench train``: CPU-time ratios, each with plain against plain beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.blocks import find, names
from convfold.cli.bench_counters import counters
from convfold.cli.bench_decompose import decompose
from convfold.cli.bench_device import device
from convfold.cli.bench_dynamic import dynamic
from convfold.cli.bench_onnx import onnx
from convfold.cli.bench_zoo import zoo
from convfold.cli.names import listed
from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.files import output_folder, write_text
from convfold.studies.bench.fold import FoldResult, FoldSetting, bench_fold
from convfold.studies.bench.train import TrainResult, TrainSetting, arms_of, bench_train
from convfold.studies.timing import circumstances, one_thread, steady_allocator

__all__ = ["app"]

app = typer.Typer(
    name="bench", no_args_is_help=True, help="Measure: folding, training, models, files, counters, and this machine."
)

Result = TypeVar("Result", FoldResult, TrainResult)
Blocks = Annotated[str, typer.Option(help="Names with commas between them; all blocks when left out.")]
Rounds = Annotated[int | None, typer.Option(min=2, help="Rounds of paired measurements.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small setting: a first look, not a figure to quote.")]
Seed = Annotated[int, typer.Option(help="For weights, statistics and inputs.")]
Out = Annotated[Path | None, typer.Option(help="Save everything as JSON in this file.")]
app.command("zoo")(zoo)
app.command("onnx")(onnx)
app.command("counters")(counters)
app.command("device")(device)
app.command("dynamic")(dynamic)
app.command("decompose")(decompose)
CONTROL = "Median (quartiles) over rounds. Control: plain against plain, which is what noise looks like."


@dataclass
class _Study:
    """One run: what to measure, what came of it, and what would not be built."""

    verb: str
    setting: FoldSetting | TrainSetting
    blocks: list[str]
    named: bool
    quick: bool
    seed: int
    out: Path | None
    console: Console = field(default_factory=Console)
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(self, items: Iterable[tuple[str, Callable[[], Result]]]) -> list[Result]:
        """Run one after the other; a block that refuses the setting is skipped unless it was asked for."""
        results = []
        for label, run in items:
            with self.console.status(f"{self.verb}: {label}"):
                try:
                    results.append(run())
                except ConvfoldError as error:
                    if self.named:
                        raise
                    self.skipped[label] = str(error)
        return results

    @property
    def command(self) -> str:
        options = ["--blocks", ",".join(self.blocks), "--rounds", str(self.setting.rounds), "--seed", str(self.seed)]
        return shlex.join(["convfold", "bench", self.verb, *options, *(["--quick"] if self.quick else [])])

    def finish(self, tables: list[Table], results: list[Result], allocator: str) -> None:
        """Print the tables and what was skipped; save it all."""
        for table in tables:
            self.console.print(table)
        for label, reason in self.skipped.items():
            self.console.print(f"left out: {label} ({reason})", emoji=False, markup=False, highlight=False)
        if self.out is None:
            return
        with one_thread():
            where = circumstances(allocator)
        record = {
            "study": f"bench {self.verb}",
            "command": self.command,
            **where,
            "setting": asdict(self.setting),
            "results": [result.to_dict() for result in results],
            "skipped": self.skipped,
        }
        write_text(self.out, json.dumps(record, indent=1) + "\n")
        self.console.print(f"saved: {self.out}", emoji=False, markup=False, highlight=False)


def _start(
    verb: str, setting: Any, blocks: str, rounds: int | None, quick: bool, seed: int, out: Path | None
) -> _Study:
    """Everything that can be wrong is found here, before minutes of measuring."""
    chosen = listed(blocks)
    if blocks and not chosen:
        raise InvalidArgument("--blocks names no block", got=repr(blocks), expected="names with commas between")
    for name in chosen:
        find(name, 2)
    if out is not None:
        if out.is_dir():
            raise FileProblem("--out is a folder", where=str(out), expected="the name of a file")
        output_folder(out.parent)
    setting = setting if rounds is None else replace(setting, rounds=rounds)
    return _Study(verb, setting, chosen or names(), bool(chosen), quick, seed, out)


@app.command("fold")
def fold(blocks: Blocks = "", rounds: Rounds = None, quick: Quick = False, seed: Seed = 0, out: Out = None) -> None:
    """Folded block against plain convolution: latency, operators, and error against float64."""
    setting = FoldSetting.quick() if quick else FoldSetting()
    study = _start("fold", setting, blocks, rounds, quick, seed, out)
    setting = study.setting
    allocator = steady_allocator()
    results = study.measure((name, lambda name=name: bench_fold(name, setting, seed)) for name in study.blocks)
    title = f"{setting.channels} channels, {setting.size}x{setting.size}, batch {setting.batch}"
    times = _table(
        f"CPU time, 3x3 (dilated 13x13, mixconv 7x7, both depthwise), {title}",
        CONTROL,
        "block",
        "folded / plain",
        "control",
        "within",
        "wide / folded",
    )
    values = _table(
        "Error against the wide block in float64, max |y - truth| / max |truth|",
        "Operators: whether the folded block executes what a plain convolution does, argument for argument.",
        *("block", "folded float64", "folded float32", "wide float32", "same operators"),
    )
    for r in results:
        times.add_row(r.block, str(r.folded), str(r.control), _yes(r.within_control), f"{r.wide.median:.2f}")
        errors = (f"{error:.1e}" for error in (r.error_float64, r.error_float32, r.wide_error_float32))
        values.add_row(r.block, *errors, _yes(r.same_operators))
    study.finish([times, values], results, allocator)


@app.command("train")
def train(blocks: Blocks = "", rounds: Rounds = None, quick: Quick = False, seed: Seed = 0, out: Out = None) -> None:
    """Training step of a block, in feature and kernel mode, against plain convolution, BN and ReLU."""
    setting = TrainSetting.quick() if quick else TrainSetting()
    study = _start("train", setting, blocks, rounds, quick, seed, out)
    setting = study.setting
    allocator = steady_allocator()
    arms = [arm for name in study.blocks for arm in arms_of(name)]
    results = study.measure((arm.label, lambda arm=arm: bench_train(arm, setting, seed)) for arm in arms)
    shape = f"{setting.channels} channels, {setting.size}x{setting.size}, batch {setting.batch}"
    memory = "Memory: most bytes of the step's tensors, relative to plain."
    title = f"CPU time of a training step, {setting.layers} layers, {shape}"
    table = _table(title, f"{CONTROL} {memory}", "block, mode", "step / plain", "control", "memory")
    for r in results:
        table.add_row(r.arm.label, str(r.time), str(r.control), f"{r.memory:.2f}")
    study.finish([table], results, allocator)


def _table(title: str, caption: str, first: str, *figures: str) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first)
    for head in figures:
        table.add_column(head, justify="right")
    return table


def _yes(value: bool) -> str:
    return "yes" if value else "no"
