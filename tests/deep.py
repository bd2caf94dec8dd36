"""The long property tests of the blocks: ``python -m tests.deep [EXAMPLES] [SEED]`` writes results/deep-blocks.json.

Each block in each dimension, on EXAMPLES (500 by default) different random configurations; see tests/blocks.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import hypothesis  # noqa: E402
import torch  # noqa: E402
from hypothesis import given, seed, settings  # noqa: E402

import convfold  # noqa: E402
from blocks.cases import Case  # noqa: E402
from blocks.contract import CEILING, GRADIENT_CEILING, Oracle, check  # noqa: E402
from blocks.suite import QUIET, BlockSuite  # noqa: E402
from blocks.test_acnet import TestACNet  # noqa: E402
from blocks.test_dbb import TestDBB  # noqa: E402
from blocks.test_dilated import TestDilated  # noqa: E402
from blocks.test_doconv import TestDOConv  # noqa: E402
from blocks.test_ecb import TestECB  # noqa: E402
from blocks.test_expandnet import TestExpandNet, layers, linear_cases, stacked_cases  # noqa: E402
from blocks.test_fire import TestFire  # noqa: E402
from blocks.test_mixconv import TestMixConv  # noqa: E402
from blocks.test_mobileone import TestMobileOne  # noqa: E402
from blocks.test_orepa import TestOREPA  # noqa: E402
from blocks.test_psconv import TestPSConv, TestShape  # noqa: E402
from blocks.test_qarepvgg import TestQARepVGG  # noqa: E402
from blocks.test_repmlp import check_partition, partitions  # noqa: E402
from blocks.test_repvgg import TestRepVGG  # noqa: E402
from convfold.files import write_text  # noqa: E402

SUITES: dict[str, type[BlockSuite]] = {
    "acnet": TestACNet,
    "dbb": TestDBB,
    "dilated": TestDilated,
    "doconv": TestDOConv,
    "ecb": TestECB,
    "expandnet": TestExpandNet,
    "fire": TestFire,
    "mixconv": TestMixConv,
    "mobileone": TestMobileOne,
    "orepa": TestOREPA,
    "psconv": TestPSConv,
    "psconv, variant shape": TestShape,
    "qarepvgg": TestQARepVGG,
    "repvgg": TestRepVGG,
}


def measure(strategy: Any, test: Any, examples: int, start: int) -> dict[str, Any]:
    """Run the contract until `examples` different configurations have passed."""
    errors: dict[str, float] = {}
    began = time.monotonic()

    def run(count: int, number: int) -> None:
        @seed(number)
        @settings(max_examples=count, deadline=None, suppress_health_check=QUIET, database=None)
        @given(case=strategy)
        def inner(case: Any) -> None:
            errors[repr(case)] = test(case)

        inner()

    while len(errors) < examples:
        # hypothesis may draw a configuration twice, and stops early when it finds few new ones.
        run(max(examples - len(errors), 20), start)
        start += 1
    return {
        "configurations": len(errors),
        "worst_relative_fold_error": max(errors.values()),
        "seconds": round(time.monotonic() - began, 1),
    }


def main(examples: int = 500, start: int = 0) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def note(block: str, dims: int, figures: dict[str, Any]) -> None:
        rows.append({"block": block, "dims": dims, **figures})
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()

    def by(oracle: Oracle) -> Callable[[Case], float]:
        return lambda case: check(case, oracle)

    for name, suite in SUITES.items():
        for dims in suite.legal:
            note(name, dims, measure(suite.strategy(dims), by(suite.oracle), examples, start))
    for dims in (1, 2, 3):
        note("expandnet, form ck", dims, measure(stacked_cases(dims), by(layers), examples, start))
    note("expandnet", 0, measure(linear_cases(), by(layers), examples, start))
    note("repmlp", 2, measure(partitions(), check_partition, examples, start))
    outcome = {
        "command": " ".join(["python -m tests.deep", *sys.argv[1:]]),
        "what": "per configuration, float64: feature and kernel mode and the fold against an independent oracle, "
        "relative to the largest output, border and interior apart; gradients of both modes; attributes; fold twice",
        "ceilings": {"values": CEILING, "gradients": GRADIENT_CEILING},
        "versions": {
            "convfold": convfold.__version__,
            "torch": torch.__version__,
            "hypothesis": hypothesis.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "rows": rows,
    }
    write_text(ROOT / "results" / "deep-blocks.json", json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
