"""The files of the demo: weights as safetensors, the folded networks as ONNX, checked in ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from convfold.files import write_bytes
from convfold.studies.demo.arms import MARK, Settings, dataset, start_network
from convfold.train import predictions
from convfold.transform import fold

__all__ = ["FIRST_SEED", "Folder", "OnnxJob", "load_pair", "run_onnx", "to_onnx"]

FIRST_SEED = 0
# One that divides nothing evenly, and the whole test set at once: a fixed batch size would show.
ODD_BATCH = 7


@dataclass(frozen=True)
class Folder:
    """Where in the output folder everything goes."""

    root: Path

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def log(self) -> Path:
        return self.root / "runs.jsonl"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    def weights(self, arm: str, form: str) -> Path:
        """The safetensors file of the first seed's network, `form` "wide" or "folded"."""
        return self.models / f"{arm}-{form}.safetensors"

    def onnx(self, arm: str) -> Path:
        """The ONNX file of the first seed's folded network."""
        return self.models / f"{arm}.onnx"

    def targets(self, arms: Iterable[str]) -> list[Path]:
        """Every file that is written atomically."""
        models = [
            path for arm in arms for path in (self.weights(arm, "wide"), self.weights(arm, "folded"), self.onnx(arm))
        ]
        return [self.report, self.summary, *models]

    def holds_weights(self, arm: str, settings: Settings) -> bool:
        """Whether both weight files of an arm are there, whole, and from a run under these settings."""
        mark = settings.mark(arm, FIRST_SEED)
        return all(_mark_in(self.weights(arm, form)) == mark for form in ("wide", "folded"))


def _mark_in(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as content:
            return (content.metadata() or {}).get(MARK)
    except (OSError, SafetensorError):
        return None


def load_pair(folder: Folder, arm: str, settings: Settings) -> tuple[nn.Module, nn.Module]:
    """The first seed's network of an arm from its files: as trained, and folded; both in eval mode."""
    _, wide = start_network(arm, FIRST_SEED, settings.width)
    wide.load_state_dict(load_file(folder.weights(arm, "wide")))
    folded = fold(wide.eval(), dataset().test_x[:2])
    folded.load_state_dict(load_file(folder.weights(arm, "folded")))
    return wide, folded


def to_onnx(model: nn.Module, images: Tensor) -> bytes:
    """`model` as an ONNX file with a free batch, weights inside. Needs onnx and onnxscript."""
    import onnx  # noqa: PLC0415

    with warnings.catch_warnings():
        # The exporter warns of its own deprecations; nothing a user of the demo could act on.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (images,),
            input_names=["images"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    onnx.checker.check_model(program.model_proto, full_check=True)
    return bytes(program.model_proto.SerializeToString())


def run_onnx(content: bytes, images: Tensor, batch: int) -> Tensor:
    """The scores ONNX Runtime computes, `batch` images at a time. Needs onnxruntime."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"images": part.numpy()})[0] for part in images.split(batch)]
    return torch.cat([torch.from_numpy(part) for part in parts])


@dataclass(frozen=True)
class OnnxJob:
    """Export an arm's folded network, run it on the whole test set, and compare with PyTorch."""

    arm: str
    settings: Settings
    folder: Folder

    def __str__(self) -> str:
        return f"exporting {self.arm} to ONNX"

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        images = dataset().test_x
        _, folded = load_pair(self.folder, self.arm, self.settings)
        content = to_onnx(folded, images[:2])
        expected = predictions(folded, images)
        with torch.no_grad():
            scores = folded(images)
        differing: dict[int, int] = {}
        largest = 0.0
        for batch in (ODD_BATCH, len(images)):
            found = run_onnx(content, images, batch)
            differing[batch] = int((found.argmax(1) != expected).sum())
            largest = max(largest, float((found - scores).abs().max()))
        write_bytes(self.folder.onnx(self.arm), content)
        return {
            "file": self.folder.onnx(self.arm).name,
            "bytes": len(content),
            "images": len(images),
            "differing": differing,
            "largest_score_difference": largest,
        }
