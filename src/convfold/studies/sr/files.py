"""What a super-resolution study writes beside its report: ONNX files, and pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from convfold.cost import cost
from convfold.files import output_folder
from convfold.report.sr_picture import hardest, sr_picture
from convfold.studies.compare.runs import Runs
from convfold.studies.sr.results import Results
from convfold.studies.sr.runs import Settings, SrJob, plain_network
from convfold.train.sr import Bicubic, psnr, restored, similarity
from convfold.train.sr.onnx_file import save_sr_onnx
from convfold.train.sr.quality import given, whole

__all__ = ["costs", "folded_network", "write_models", "write_pictures"]

# The edge of the picture that multiply-accumulates are counted on.
_EDGE = 32


def folded_network(runs: Runs, job: SrJob, settings: Settings) -> nn.Module:
    """The folded network of a run that kept it: the plain network's modules with the folded weights."""
    network = plain_network(settings, job.seed)
    network.load_state_dict(load_file(runs.weights(job)))
    return network.eval()


def costs(networks: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Per arm the parameters that are shipped, and multiply-accumulates per pixel of the picture given."""
    found = {}
    for arm, network in networks.items():
        counted = cost(network, torch.zeros(1, 1, _EDGE, _EDGE))
        found[arm] = {"parameters": counted.params, "macs_per_pixel": counted.macs / _EDGE**2}
    return found


def write_models(folder: Path, results: Results, networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """One ONNX file per arm, run before it is kept; their names in the folder."""
    output_folder(folder / "models")
    names = {}
    for arm, network in networks.items():
        notes = {
            "arm": arm,
            "degrade": results.settings.degrade,
            "seed": results.seeds[0],
            "steps": results.settings.recipe.steps,
            "learning_rate": results.best[arm],
        }
        names[arm] = f"models/{arm}.onnx"
        save_sr_onnx(network, folder / names[arm], notes)
    return names


def write_pictures(folder: Path, results: Results, networks: Mapping[str, nn.Module]) -> list[tuple[str, Path]]:
    """One PNG per held-out picture, with what each network makes of it; captions and files."""
    output_folder(folder / "pictures")
    settings = results.settings
    shown = []
    for number, picture in enumerate(settings.pictures.test, 1):
        truth = whole(picture, settings.scale)
        small = given(picture, settings.degradation)
        methods = {"bicubic" if settings.scale > 1 else "as given": Bicubic(settings.scale), **networks}
        found = {name: restored(network, small) for name, network in methods.items()}
        panels, said = [], []
        for name, large in found.items():
            value = psnr(large, truth)
            panels.append((f"{name}\n{value:.2f} dB, SSIM {similarity(large[0], truth[0]):.3f}", large[0, 0]))
            said.append(f"{name} {value:.2f} dB")
        part = hardest(next(iter(found.values()))[0, 0], truth[0, 0])
        file = folder / "pictures" / f"{number}-{_plain(picture.name)}.png"
        title = f"{picture.name}, {truth.shape[-1]}x{truth.shape[-2]}"
        sr_picture(file, title, truth[0, 0], panels, part)
        shown.append((f"{picture.name}: {', '.join(said)}", file))
    return shown


def _plain(name: str) -> str:
    """A name without anything that a file system or a shell could mistake."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")
