"""One model of ``bench zoo``: its costs, its errors and its latencies, as it is, folded, and folded by timm."""

from __future__ import annotations

import copy
import importlib
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convfold.cost import cost
from convfold.plan import plan
from convfold.studies.bench.zoo import onnx
from convfold.studies.bench.zoo.models import prepared
from convfold.studies.timing import circumstances, one_thread, paired, ratio, steady_allocator
from convfold.zoo import import_torchvision

__all__ = ["ZooSetting", "measure_values", "timm_fold"]

# Heavier models do with fewer inputs: as many as cost this together.
_ALL_MACS = 30e9
# Below it, each candidate is timed in copies, so that where its memory lies is noise.
_LIGHT_BYTES = 2e8
_LEAST_ROUNDS = 5
_LEAST_SECONDS = 0.01

Models = Mapping[str, nn.Module]


@dataclass(frozen=True)
class ZooSetting:
    """What is measured of each model: at most `samples` inputs, at most `rounds` of timings in about `seconds`.

    `size` replaces the model's own input size. Without `latency` nothing is timed but folding; without `onnx`
    nothing is exported. `objective` is what folds are planned for.
    """

    size: int | None = None
    seed: int = 0
    samples: int = 16
    latency: bool = True
    onnx: bool = True
    folding: bool = True
    rounds: int = 41
    seconds: float = 40.0
    objective: str = "macs"

    def logged(self) -> dict[str, Any]:
        """The setting as a log has it: lines of before there was a choice of objectives stay lines of "macs"."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("objective", "macs")}


def timm_fold(model: nn.Module) -> nn.Module:
    """timm's own fold, on a copy."""
    import_torchvision()  # in its careful way, before timm does
    fold: Callable[[nn.Module], nn.Module] = importlib.import_module("timm.utils.model").reparameterize_model
    return fold(model)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def measure_values(name: str, setting: ZooSetting) -> dict[str, Any]:
    """Everything but the cost of folding, for the model of that name. Raises what folding it raises."""
    allocator = steady_allocator()
    with one_thread(), torch.no_grad():
        model, x = prepared(name, setting.size, setting.seed)
        before = copy.deepcopy(model.state_dict())
        models = {"original": model, "convfold": plan(model, x, setting.objective).apply()}
        failed = _add_timm(models)
        result: dict[str, Any] = {
            "where": circumstances(allocator) | {"timm": version("timm")},
            "objective": setting.objective,
            "input": list(x.shape),
            "cost": {key: _totals(m, x) for key, m in models.items()},
            **({"timm_failed": failed} if failed else {}),
        }
        affordable = int(_ALL_MACS / max(result["cost"]["original"]["macs"], 1))
        result["samples"] = max(1, min(setting.samples, affordable))
        result.update(_errors(models, x, result["samples"], setting.objective))
        result["untouched"] = _same(before, model.state_dict())
        if setting.latency:
            result["latency"] = {"eager": _eager(models, x, setting)}
        if setting.onnx:
            result.update(_onnx(models, x, setting))
    return result


def _add_timm(models: dict[str, nn.Module]) -> str:
    """timm's fold, where it changes something; what it said where it failed."""
    try:
        folded = timm_fold(models["original"])
    except Exception as error:  # whatever a module's own fuse() raises
        return _reason(error)
    if folded.state_dict().keys() != models["original"].state_dict().keys():
        models["timm"] = folded
    return ""


def _totals(model: nn.Module, x: Tensor) -> dict[str, int]:
    report = cost(model, x)
    return {"macs": report.macs, "convolutions": report.convolutions, "operators": report.operators}


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _flat(outputs: object) -> Tensor:
    return torch.cat([leaf.double().flatten() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)])


class _StaysDouble(TorchDispatchMode):
    """Casts to a smaller floating type become none.

    A model that works in float32 for a while, whatever its type, turns a difference in the last digit of float64
    into one of float32 where it rounds the other way: that is no error of a fold.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def _errors(models: Models, x: Tensor, samples: int, objective: str) -> dict[str, Any]:
    """max |y - truth| / max |truth| of a fold made in float64, and L2 errors in float32; truth is in float64.

    The latter are medians over the inputs: one on which a random network is unstable says nothing of a fold.
    """
    generator = torch.Generator().manual_seed(1)
    inputs = [x, *(torch.randn(x.shape, generator=generator) for _ in range(samples - 1))]
    exact = copy.deepcopy(models["original"]).double()
    folded = plan(exact, x.double(), objective).apply()
    worst, scale = 0.0, 0.0
    apart: dict[str, list[float]] = {key: [] for key in models}
    for sample in inputs:
        with _StaysDouble():
            truth, y = _flat(exact(sample.double())), _flat(folded(sample.double()))
        worst = max(worst, _largest(y - truth) if y.shape == truth.shape else math.inf)
        scale = max(scale, _largest(truth))
        for key, model in models.items():
            y32 = _flat(model(sample))
            same = y32.shape == truth.shape
            apart[key].append(float((y32 - truth).norm() / truth.norm()) if same else math.inf)
    errors = {key: statistics.median(values) for key, values in apart.items()}
    return {
        "error_float64": worst / scale,
        "error_float32": errors,
        "float32_ratio": {key: e / errors["original"] for key, e in errors.items() if key != "original"},
        "largest_output": scale,
    }


def _largest(values: Tensor) -> float:
    # A NaN anywhere must not pass for zero.
    found = float(values.abs().max())
    return found if math.isfinite(found) else math.inf


def _time(works: Mapping[str, Sequence[Callable[[], object]]], setting: ZooSetting) -> dict[str, Any]:
    """Latencies relative to the fold; the control is the same fold once more."""
    first = paired({key: twins[:1] for key, twins in works.items()}, 1, least=0.0, warm=1)
    one_round = sum(max(taken[0], _LEAST_SECONDS) for taken in first.values())
    rounds = max(_LEAST_ROUNDS, min(setting.rounds, int(setting.seconds / one_round)))
    times = paired(works, rounds, least=_LEAST_SECONDS, warm=1)
    ratios = {key: asdict(ratio(times[key], times["convfold"])) for key in works if key != "convfold"}
    return {**ratios, "milliseconds": 1e3 * sorted(times["convfold"])[rounds // 2]}


def _eager(models: Models, x: Tensor, setting: ZooSetting) -> dict[str, Any]:
    held = sum(p.numel() * p.element_size() for p in models["original"].parameters())
    twins = 3 if held < _LIGHT_BYTES else 1

    def calls(model: nn.Module) -> list[Callable[[], object]]:
        return [lambda m=m: m(x) for m in (copy.deepcopy(model) for _ in range(twins))]

    works = {key: calls(model) for key, model in models.items()}
    return _time({**works, "control": calls(models["convfold"])}, setting)


def _onnx(models: Models, x: Tensor, setting: ZooSetting) -> dict[str, Any]:
    """Nodes and latencies in ONNX Runtime; where a model does not get there, why."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = {key: onnx.export(model, x, Path(folder) / f"{key}.onnx") for key, model in models.items()}
            found: dict[str, Any] = {"onnx": {key: onnx.optimised_nodes(path) for key, path in paths.items()}}
            if setting.latency:
                works = {key: [onnx.runner(path, x) for _ in range(2)] for key, path in paths.items()}
                works["control"] = [onnx.runner(paths["convfold"], x) for _ in range(2)]
                found["latency_onnxruntime"] = _time(works, setting)
            return found
        except Exception as error:  # the exporter's, the runtime's and our own
            return {"onnx": {"failed": _reason(error)}}
