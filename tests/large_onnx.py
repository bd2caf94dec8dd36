"""A file of more than 2 GiB, folded: ``python -m tests.large_onnx`` writes results/onnx-large.json.

How much memory the process takes at its highest, over what it takes for a small file, against the largest tensor and
the file's map.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from zlib import crc32

import numpy as np
import onnx_ir as ir

from convfold.files import write_text
from convfold.transform.fold_onnx import fold_onnx

OUT = Path(__file__).parents[1] / "results" / "onnx-large.json"
MIB = 2**20


def write_model(path: Path, channels: int, layers: int) -> int:
    """A chain of 1x1 convolutions, each with a batch normalisation and ReLU; the bytes of its largest weight."""
    dtype = ir.DataType.FLOAT
    x = ir.Value(name="x", shape=ir.Shape([1, channels, 1, 2]), type=ir.TensorType(dtype))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 17}, name="large")
    at = x
    for layer in range(layers):

        def held(name: str, shape: tuple[int, ...], low: float, high: float) -> ir.Value:
            def draw() -> ir.TensorProtocol:
                drawn = np.random.default_rng(crc32(name.encode())).random(shape, dtype=np.float32)
                drawn *= high - low
                drawn += low
                return ir.tensor(drawn, name=name)

            tensor = ir.LazyTensor(draw, dtype, ir.Shape(shape), name=name)
            value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=tensor)
            graph.register_initializer(value)
            return value

        spread = (3 / channels) ** 0.5
        weight = held(f"w{layer}", (channels, channels, 1, 1), -spread, spread)
        norm = [held(f"{n}{layer}", (channels,), *ends) for n, *ends in (("g", 0.5, 1.5), ("b", -0.5, 0.5))]
        norm += [held(f"{n}{layer}", (channels,), *ends) for n, *ends in (("m", -0.5, 0.5), ("v", 0.5, 1.5))]
        for op, inputs in (("Conv", [at, weight]), ("BatchNormalization", None), ("Relu", None)):
            node = ir.Node("", op, inputs or ([at, *norm] if op == "BatchNormalization" else [at]))
            node.outputs[0].name = f"{op}{layer}"
            graph.append(node)
            at = node.outputs[0]
    at.shape, at.type = x.shape, x.type
    graph.outputs.append(at)
    ir.save(ir.Model(graph, ir_version=10), path, external_data=f"{path.name}.data")
    return channels * channels * 4


def fold_and_measure(path: str, out: str) -> None:
    """In a process of its own: fold, and print bytes of memory at the highest."""
    folded = fold_onnx(path, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    before, after = folded.plan.before, folded.plan.after
    sys.stdout.write(json.dumps({"peak": peak, "operators": [before.operators, after.operators]}))


def measured(path: Path, out: Path) -> dict[str, object]:
    command = [
        sys.executable,
        "-c",
        f"from tests.large_onnx import fold_and_measure as f; f({str(path)!r}, {str(out)!r})",
    ]
    found: dict[str, object] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main(channels: int = 8192, layers: int = 9) -> int:
    with tempfile.TemporaryDirectory(dir=OUT.parent) as name:
        folder = Path(name)
        write_model(folder / "small.onnx", 64, layers)
        small = measured(folder / "small.onnx", folder / "small-folded.onnx")
        largest = write_model(folder / "large.onnx", channels, layers)
        large = measured(folder / "large.onnx", folder / "large-folded.onnx")
        file = (folder / "large.onnx.data").stat().st_size
    more = int(str(large["peak"])) - int(str(small["peak"]))
    result = {
        "command": "python -m tests.large_onnx",
        "file_mib": file / MIB,
        "largest_tensor_mib": largest / MIB,
        "peak_mib": {"small": int(str(small["peak"])) / MIB, "large": int(str(large["peak"])) / MIB},
        "more_than_the_map_over_the_largest_tensor": (more - file) / largest,
        "operators": large["operators"],
    }
    write_text(OUT, json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if more <= file + 1.5 * largest else 1


if __name__ == "__main__":
    sys.exit(main())
