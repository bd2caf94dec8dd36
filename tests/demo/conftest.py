"""One small demo, killed in the middle and started again, shared by all tests of a session."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from convfold.cli import main; main()", "demo", "--quick", "--blocks", "repvgg"]
SEEDS = 2


def start(out: Path, seeds: int = SEEDS) -> subprocess.Popen[str]:
    """The demo in a process group of its own, as a terminal would start it."""
    return subprocess.Popen(
        [*COMMAND, "--seeds", str(seeds), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that a shell runs in the background ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def lines(out: Path) -> list[str]:
    log = out / "runs.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def wait_for_lines(process: subprocess.Popen[str], out: Path, count: int) -> None:
    """Until so many runs are logged; a demo that ends before is a failure."""
    deadline = time.monotonic() + 120
    while len(lines(out)) < count:
        if process.poll() is not None:
            raise AssertionError(f"the demo ended early:\n{process.communicate()[1]}")
        assert time.monotonic() < deadline, "the demo logs no runs"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Demo:
    """What the demo left behind, before and after."""

    out: str
    logged_at_kill: list[str] = field(default_factory=list)
    files_at_kill: list[str] = field(default_factory=list)
    orphans: int = 0
    code: int = -1
    stdout: str = ""
    stderr: str = ""


def _killed_and_resumed(out: Path) -> Demo:
    demo = Demo(str(out))
    process = start(out)
    wait_for_lines(process, out, 2)
    workers = children(process.pid)
    assert workers, "the demo has no worker processes"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    demo.logged_at_kill = lines(out)
    demo.files_at_kill = [str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file()]
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    demo.orphans = sum(map(alive, workers))
    # What a kill in the middle of the log's write would leave, and of a model's.
    with (out / "runs.jsonl").open("a") as log:
        log.write('{"name": "plain", "seed": 1, "resu')
    (out / "models" / ".plain-folded-4711.safetensors").write_bytes(b"half")
    resumed = start(out)
    demo.stdout, demo.stderr = resumed.communicate(timeout=300)
    demo.code = resumed.returncode
    return demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Made once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    record = shared / "demo.json"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_text(json.dumps(vars(_killed_and_resumed(shared / "demo"))))
    return Demo(**json.loads(record.read_text()))
