"""What ``convfold train`` promises, at full length: ``python -m tests.deep_train`` writes results/train.json.

Three parts. "kills": trainings killed by SIGKILL at random moments and resumed end in the weights of the uninterrupted
one, bit for bit, and no file is ever half-written; the same once with one process of two killed. "processes": one and
two processes reach the same test error, seed by seed. "timm": a timm model trained wide by two processes, folded,
exported. A failure is an exit code of 1, with what was found in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from safetensors.torch import load_file

from convfold.files import write_text
from convfold.studies.statistics import LEVEL, compare
from convfold.train.checkpoint import read_checkpoint
from support.training import ROOT, command, launch, shown, torchrun, workers_of

DATA = ("digits", "--model", "convfold.train:plain_cnn", "--expand", "dbb")
KILLED = (*DATA, "--ema", "0.99", "--augment", "shift", "--epochs", "12")
COMPARED = (*DATA, "--epochs", "15")
TIMM = ("digits", "--model", "timm:repvgg_a0", "--expand", "dbb", "--epochs", "2", "--world-size", "2")


def finished(words: Sequence[str]) -> float:
    """Run it to its end; the seconds that it took."""
    began = time.perf_counter()
    process = launch(words)
    text, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{shown(words)}\n{text}")
    return time.perf_counter() - began


def half_written(folder: Path) -> list[str]:
    """Files under their own name that cannot be read to their end."""
    reading: dict[str, Callable[[Path], object]] = {
        ".safetensors": load_file,
        ".json": lambda path: json.loads(path.read_text()),
        # A line that a kill cut off has no end; all others are whole.
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().split("\n")[:-1]],
        ".onnx": _onnx,
        ".png": lambda path: path.read_bytes()[-8:].index(b"IEND"),
    }
    bad = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        try:
            reading[path.suffix](path)
            if path.name == "checkpoint.safetensors":
                read_checkpoint(path)
        except Exception as error:
            bad.append(f"{path.name}: {error}")
    return bad


def _onnx(path: Path) -> None:
    import onnx

    onnx.checker.check_model(path)


def equal(a: Path, b: Path) -> bool:
    """Whether the trained and the folded weights of two folders are the same bits."""
    for name in ("final.safetensors", "folded.safetensors"):
        one, two = load_file(a / name), load_file(b / name)
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            return False
    return True


def kills(count: int, work: Path, chance: random.Random) -> dict[str, Any]:
    """Trainings killed at a moment drawn evenly over the length of a whole one, each resumed until it ends."""
    whole = work / "whole"
    length = finished(command(*KILLED, "--out", str(whole)))
    done: list[dict[str, Any]] = []
    bad: list[str] = []
    trainings, unequal = 0, 0
    while len(done) < count:
        trainings += 1
        out = work / f"killed{trainings}"
        ended = False
        while not ended:
            process = launch(command(*KILLED, "--out", str(out), "--resume"))
            moment = chance.uniform(0, length) if len(done) < count else 10 * length
            try:
                process.wait(moment)
                ended = True
                if process.returncode:
                    raise SystemExit(process.communicate()[0])
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                done.append({"training": trainings, "second": round(moment, 2), "epochs_kept": _epoch(out)})
                bad += half_written(out) if out.exists() else []
        unequal += not equal(whole, out)
    return {
        "command": shown(command(*KILLED, "--out", "OUT", "--resume")),
        "whole_seconds": round(length, 1),
        "kills": done,
        "trainings": trainings,
        "trainings_of_other_weights": unequal,
        "half_written": bad,
    }


def _epoch(out: Path) -> int:
    path = out / "checkpoint.safetensors"
    return read_checkpoint(path).epoch if path.exists() else 0


def lost_process(work: Path, chance: random.Random) -> dict[str, Any]:
    """Two processes, the second killed after some epochs; resumed by two."""
    whole, out = work / "two", work / "two-lost"
    finished(torchrun(2, *KILLED, "--out", str(whole)))
    process = launch(torchrun(2, *KILLED, "--out", str(out)))
    pids = workers_of(process.pid, out / "checkpoint.safetensors")
    time.sleep(chance.uniform(0, 3))
    os.kill(pids[1], signal.SIGKILL)
    text, _ = process.communicate()
    kept = _epoch(out)
    bad = half_written(out)
    finished(torchrun(2, *KILLED, "--out", str(out), "--resume"))
    sentences = [line for line in text.splitlines() if line.startswith("convfold:")]
    return {
        "command": shown(torchrun(2, *KILLED, "--out", "OUT")),
        "said": sentences,
        "exit_code": process.returncode,
        "epochs_kept": kept,
        "half_written": bad,
        "same_weights_in_the_end": equal(whole, out),
    }


def processes(seeds: int, work: Path) -> dict[str, Any]:
    """Test errors of one and of two processes, seed by seed."""
    rows = []
    for seed in range(seeds):
        row: dict[str, Any] = {"seed": seed}
        for name, start in (("one", command), ("two", _two)):
            out = work / f"{name}{seed}"
            finished(start(*COMPARED, "--seed", str(seed), "--out", str(out)))
            log = [json.loads(line) for line in (out / "metrics.jsonl").open()]
            row[name] = {"test_error": log[-1]["test_error"], "first_loss": log[0]["train_loss"]}
        rows.append(row)
    one, two = ([row[name]["test_error"] for row in rows] for name in ("one", "two"))
    paired = compare(two, one)
    return {
        "commands": [shown(start(*COMPARED, "--seed", "S", "--out", "OUT")) for start in (command, _two)],
        "seeds": rows,
        "difference_two_minus_one": asdict(paired),
        "largest_relative_difference_of_the_first_epochs_loss": max(
            abs(row["two"]["first_loss"] / row["one"]["first_loss"] - 1) for row in rows
        ),
        "within_noise": paired.p is not None and paired.p >= LEVEL,
    }


def _two(*words: str) -> list[str]:
    return torchrun(2, *words)


def timm(work: Path) -> dict[str, Any]:
    """A timm model, two epochs, expanded, two processes; what its folder says."""
    out = work / "timm"
    seconds = finished(torchrun(2, *TIMM, "--out", str(out)))
    result = json.loads((out / "result.json").read_text())
    names = ("changed", "test_images", "wrong_trained", "wrong_folded", "costs", "onnx")
    certificate = {name: result["certificate"][name] for name in ("equal", "error", "bound")}
    told = {name: result[name] for name in names}
    return {
        "command": shown(_two(*TIMM, "--out", "OUT")),
        "seconds": round(seconds),
        **told,
        "certificate": certificate,
    }


def main() -> int:
    """Run the parts and write the file; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=8, help="two or more")
    parser.add_argument("--without", action="append", default=[], choices=["kills", "processes", "timm"])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "train.json")
    asked = parser.parse_args()
    chance = random.Random(0)
    found: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "tests.deep_train", *sys.argv[1:]]),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    with TemporaryDirectory() as name:
        work = Path(name)
        if "kills" not in asked.without:
            found["kills"] = kills(asked.kills, work, chance)
            found["lost_process"] = lost_process(work, chance)
        if "processes" not in asked.without:
            found["processes"] = processes(asked.seeds, work)
        if "timm" not in asked.without:
            found["timm"] = timm(work)
    found["holds"] = _holds(found)
    write_text(asked.out, json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"{asked.out}: {'all holds' if found['holds'] else 'SOMETHING DOES NOT HOLD'}\n")
    return 0 if found["holds"] else 1


def _holds(found: dict[str, Any]) -> bool:
    held = []
    if "kills" in found:
        killed, lost = found["kills"], found["lost_process"]
        held += [not killed["trainings_of_other_weights"], not killed["half_written"]]
        held += [lost["same_weights_in_the_end"], not lost["half_written"], bool(lost["said"])]
    if "processes" in found:
        held.append(found["processes"]["within_noise"])
    if "timm" in found:
        run = found["timm"]
        held += [run["certificate"]["equal"], run["changed"] == 0, "equal in ONNX Runtime" in run["onnx"]]
    return all(held)


if __name__ == "__main__":
    sys.exit(main())
