"""What a fold reached before: ``python -m tests.floors [FILE]`` fails where a line of zoo.jsonl is worse.

The floors are those of a prototype, and what hand folds reach. Operators are relative to the original's, so
that a counter that sees an operator as more than one does not move them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FLOORS", "RESULTS", "Floor", "read", "worse"]

RESULTS = Path(__file__).parents[1] / "results" / "zoo.jsonl"
# The table gives MMACs to one place.
ROUNDING = 0.05


@dataclass(frozen=True)
class Floor:
    """Convolutions, MMACs and operators reached; operators of the original where they were counted."""

    convolutions: int
    mmacs: float | None
    operators: int
    original_operators: int


FLOORS = {
    "timm:repvgg_a0": Floor(23, 1361.5, 46, 168),
    "timm:mobileone_s0": Floor(44, 275.1, 88, 674),
    "timm:fastvit_t8": Floor(53, 685.2, 85, 258),
    "timm:repghostnet_050": Floor(96, 43.3, 176, 320),
    "timm:repvit_m1": Floor(104, 793.9, 198, 378),
    "timm:levit_128s": Floor(51, 304.3, 152, 218),
    "timm:efficientformer_l1": Floor(38, 1290.8, 136, 189),
    "timm:efficientformerv2_s0": Floor(84, 395.7, 171, 274),
    "timm:swiftformer_xs": Floor(82, 602.2, 189, 246),
    "timm:starnet_s050": Floor(36, 91.3, 56, 74),
    "timm:ghostnetv3_050": Floor(138, 49.6, 306, 1040),
    "timm:densenet121": Floor(121, 2603.0, 367, 430),  # 2602.950656, given as 2602.9
    "timm:mixnet_s": Floor(124, 239.2, 255, 304),
    "timm:hgnetv2_b0": Floor(44, 321.3, 109, 190),
    "timm:inception_v3": Floor(95, None, 183, 312),
    "torchvision:googlenet": Floor(58, None, 111, 195),
    "torchvision:shufflenet_v2_x0_5": Floor(57, None, 109, 168),
    "convfold.studies.bench.zoo.models:TwoDBB": Floor(3, 15.1, 9, 35),
}
# Convolutions, products and norms in ONNX Runtime's optimised graph.
MOBILEONE_NODES = {"Conv": 43, "Gemm": 1, "BatchNormalization": 0, "Add": 0}


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The results by model; of two lines of one model the later."""
    records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {record["name"]: record["result"] for record in records}


def worse(results: dict[str, dict[str, Any]]) -> list[str]:
    """Each way in which a model is above its floor, one sentence each."""
    found = []
    for name, floor in FLOORS.items():
        result = results.get(name)
        # At another input size the figures are others.
        if result is None or ("failed" not in result and result["input"][2:] != _size(name)):
            continue
        if "failed" in result:
            found.append(f"{name}: {result['failed']}")
            continue
        ours, original = result["cost"]["convfold"], result["cost"]["original"]
        mmacs = original["macs"] / 1e6 if floor.mmacs is None else floor.mmacs + ROUNDING
        operators = floor.operators + original["operators"] - floor.original_operators
        pairs = [("convolutions", ours["convolutions"], floor.convolutions), ("MMACs", ours["macs"] / 1e6, mmacs)]
        pairs.append(("operators", ours["operators"], operators))
        found += [f"{name}: {value:g} {what}, floor {least:g}" for what, value, least in pairs if value > least]
    nodes = results.get("timm:mobileone_s0", {}).get("onnx", {}).get("convfold")
    found += [
        f"timm:mobileone_s0: {nodes[kind]} {kind} in ONNX Runtime, not {count}"
        for kind, count in (MOBILEONE_NODES.items() if nodes else ())
        if nodes[kind] != count
    ]
    return found


def _size(name: str) -> list[int]:
    side = {"convfold.studies.bench.zoo.models:TwoDBB": 56, "timm:inception_v3": 299}.get(name, 224)
    return [side, side]


def main(path: Path = RESULTS) -> int:
    results = read(path)
    found = worse(results)
    lines = [*found, f"{len(FLOORS.keys() & results.keys())} of {len(FLOORS)} floors checked, {len(found)} worse"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
