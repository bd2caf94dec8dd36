"""``bench onnx``: models written as ONNX files by both of torch's exporters, folded, counted, timed side by side."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convfold.blocks import build
from convfold.plan import plan
from convfold.studies.bench.zoo.models import prepared
from convfold.studies.bench.zoo.onnx import runner
from convfold.studies.runlog import RunLog
from convfold.studies.timing import circumstances, one_thread, paired, ratio, steady_allocator
from convfold.transform.fold_onnx import fold_onnx

__all__ = ["EXPORTERS", "LOG", "MODELS", "OnnxSetting", "acnet", "bench_onnx", "broken", "dbb", "expandnet"]

LOG = "onnx.jsonl"
EXPORTERS = ("dynamo", "torchscript")
_HERE = "convfold.studies.bench.onnx"
MODELS = (
    "timm:repvgg_a0",
    "timm:mobileone_s0",
    "timm:fastvit_t8",
    "timm:repvit_m1",
    "timm:repghostnet_050",
    "timm:densenet121",
    f"{_HERE}:dbb",
    f"{_HERE}:acnet",
    f"{_HERE}:expandnet",
)
# The largest L2 error against float64 that a folded file may have, over the unfolded one's.
CEILING = 1.5
_COUNTED = ("Conv", "Gemm", "MatMul", "BatchNormalization", "Add", "Mul", "Concat")
_SIMPLIFIERS = ("onnxsim", "onnxslim")


class _Blocks(nn.Sequential):
    """A strided stem and four blocks of 64 channels on maps of 56 x 56."""

    input_size = (3, 112, 112)

    def __init__(self, block: str, **options: Any) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2, 1), nn.ReLU()]
        for _ in range(4):
            wide = build(block, 2, 64, 64, 3, padding=1, **options)
            wide.mode = "feature"  # as it trains: every branch a convolution over the map
            layers += [wide, nn.ReLU()]
        super().__init__(*layers)


def dbb() -> nn.Module:
    """A network of diverse branch blocks."""
    return _Blocks("dbb")


def acnet() -> nn.Module:
    """A network of asymmetric convolution blocks."""
    return _Blocks("acnet")


def expandnet() -> nn.Module:
    """A network of expanded linear chains."""
    return _Blocks("expandnet", expansion=2)


@dataclass(frozen=True)
class OnnxSetting:
    """`rounds` of paired timings on `batch` samples; without `latency` nothing is timed."""

    seed: int = 0
    rounds: int = 21
    batch: int = 1
    latency: bool = True


def bench_onnx(
    models: tuple[str, ...], setting: OnnxSetting, out: Path, tell: Callable[[str, dict[str, Any]], None]
) -> dict[str, dict[str, Any]]:
    """Measure each model by each exporter that is not in the log `out`/onnx.jsonl yet; results by "model exporter"."""
    settings = asdict(setting)
    log = RunLog(out / LOG, lambda _: settings)
    found = {}
    try:
        for model in models:
            for exporter in EXPORTERS:
                name = f"{model} {exporter}"
                if (name, setting.seed) not in log.results:
                    log.add(name, setting.seed, _measured(model, exporter, setting))
                found[name] = log.results[name, setting.seed]
                tell(name, found[name])
    finally:
        log.close()
    return found


def broken(result: dict[str, Any]) -> list[str]:
    """What of the promise a folded file breaks."""
    if "failed" in result:
        return [str(result["failed"])]
    found = []
    if result["convolutions"] != result["module_convolutions"]:
        found.append(f"{result['convolutions']} convolutions, {result['module_convolutions']} by the module's fold")
    if not result["l2_ratio"] <= CEILING:
        found.append(f"L2 error {result['l2_ratio']:.2f} times the unfolded file's")
    return found


def _measured(name: str, exporter: str, setting: OnnxSetting) -> dict[str, Any]:
    try:
        with tempfile.TemporaryDirectory() as folder, one_thread():
            return _of(name, exporter, setting, Path(folder))
    except Exception as error:  # a line that says why, whatever it was
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _of(name: str, exporter: str, setting: OnnxSetting, folder: Path) -> dict[str, Any]:
    model, x = prepared(name, None, setting.seed)
    given, folded = folder / "given.onnx", folder / "folded.onnx"
    with _silent():
        _export(model, x, given, exporter)
    outcome = fold_onnx(given, folded)
    decided = plan(model, x)
    certificate, before, after = outcome.certificate, outcome.plan.before, outcome.plan.after
    result: dict[str, Any] = {
        "input": list(x.shape),
        "nodes": {"given": _nodes(given), "folded": _nodes(folded)},
        "macs": [before.macs, after.macs],
        "operators": [before.operators, after.operators],
        "convolutions": after.convolutions,
        "module_convolutions": decided.after.convolutions if decided.after is not None else None,
        "error": certificate.error,
        "bound": certificate.bound,
        "l2_ratio": certificate.l2_ratio,
    }
    if setting.latency:
        result["latency"] = _latency(given, folded, x.expand(setting.batch, *x.shape[1:]).contiguous(), setting, folder)
    return result


def _export(model: nn.Module, x: Tensor, path: Path, exporter: str) -> None:
    """Write the model as it is, for any batch."""
    if exporter == "dynamo":
        batch = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=batch, external_data=False, verbose=False)
    else:
        axes = {"x": {0: "batch"}}
        torch.onnx.export(model, (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes=axes)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Exporters print and warn about what they do themselves."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _nodes(path: Path) -> dict[str, int]:
    onnx = importlib.import_module("onnx")
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    kinds = Counter(node.op_type for node in nodes)
    return {"nodes": len(nodes), **{kind: kinds[kind] for kind in _COUNTED}}


def _latency(given: Path, folded: Path, x: Tensor, setting: OnnxSetting, folder: Path) -> dict[str, Any]:
    """CPU time in ONNX Runtime over the folded file's; the folded file once more is the control."""
    allocator = steady_allocator()
    paths = {"folded": folded, "control": folded, "given": given}
    for name in _SIMPLIFIERS:
        if find_spec(name) is not None:
            simplified = folder / f"{name}.onnx"
            with _silent():
                _simplify(name, given, simplified)
            paths[name] = simplified
    taken = paired({name: [runner(path, x)] for name, path in paths.items()}, setting.rounds)
    ratios = {name: ratio(taken[name], taken["folded"]).to_dict() for name in paths if name != "folded"}
    milliseconds = 1e3 * sorted(taken["folded"])[setting.rounds // 2]
    return {"milliseconds": milliseconds, "over_folded": ratios, "where": circumstances(allocator)}


def _simplify(name: str, given: Path, simplified: Path) -> None:
    """What a public optimiser of ONNX files makes of it."""
    onnx, tool = importlib.import_module("onnx"), importlib.import_module(name)
    if name == "onnxsim":
        onnx.save(tool.simplify(onnx.load(str(given)))[0], str(simplified))
    else:
        tool.slim(str(given), str(simplified))
