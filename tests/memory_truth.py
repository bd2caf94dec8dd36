"""Peak memory as counted against the allocator's own: ``python -m tests.memory_truth [FILE]``.

Each model runs once for real, forward under ``no_grad`` in eval mode and a step of training, on the CPU with one
thread and on CUDA where there is one; the counts come from meta tensors. Writes results/memory.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tests.support.allocator import allocator_peak
from torch import Tensor, nn

from convfold.algebra import hollow
from convfold.cost.counting.counter import OperatorCounter
from convfold.cost.memory.observer import MemoryObserver
from convfold.cost.training import training_step
from convfold.files import write_text
from convfold.graph.inputs import example_inputs
from convfold.zoo import load_model

RESULTS = Path(__file__).parents[1] / "results" / "memory.json"
CEILING = 0.05  # the part of the allocator's figure by which a count may be off

FORWARD = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:mobilenet_v2",
    "torchvision:densenet121",
    "torchvision:vgg11",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:swin_t",
    "timm:efficientnet_b0",
    "timm:repvgg_a0",
    "timm:mobileone_s0",
    "timm:convnext_tiny",
    "tests.memory_truth:UNet",
)
# Counted otherwise than run: attention on meta tensors makes the matrix of weights, on the CPU it is one kernel.
ATTENTION = ("torchvision:vit_b_16", "timm:vit_tiny_patch16_224")
STEP = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:mobilenet_v2",
    "torchvision:densenet121",
    "timm:repvgg_a0",
    "timm:convnext_tiny",
)


class UNet(nn.Module):
    """Two levels down and up again, joined by concatenation."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()

        def pair(inner: int, outer: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for c_in, c_out in ((inner, outer), (outer, outer)):
                layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
            return nn.Sequential(*layers)

        self.first, self.second, self.third = pair(3, width), pair(width, 2 * width), pair(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.back2, self.back1 = pair(4 * width, 2 * width), pair(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        second = self.back2(torch.cat([self.up2(third), second], 1))
        return self.head(self.back1(torch.cat([self.up1(second), first], 1)))


def counted_forward(model: nn.Module, x: Tensor) -> MemoryObserver:
    """A forward pass on meta tensors, as the allocator of the input's device would see it."""
    given = example_inputs(model, torch.empty_like(x, device="meta"))
    observer = MemoryObserver.on(x.device)
    empty = hollow(model).eval()
    with torch.no_grad(), OperatorCounter(empty, given, meta=True, observers=(observer,)):
        given.call(empty)
    return observer


def real_forward(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """A forward pass in eval mode without gradients."""

    def run() -> Any:
        with torch.no_grad():
            return model.eval()(x)

    return run


def real_step(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """Forward and backward in train mode; gradients do not outlive the step."""

    def run() -> None:
        model.train()(x).sum().backward()

    return run


def _row(name: str, kind: str, device: str, told: int, real: int) -> dict[str, Any]:
    return {"model": name, "pass": kind, "device": device, "counted": told, "allocator": real, "ratio": told / real}


def measured(name: str, kind: str, device: str) -> dict[str, Any]:
    """One model, forward or step: bytes counted and bytes that the allocator reports."""
    model, x = load_model(name).to(device), torch.randn(1 if kind == "forward" else 2, 3, 224, 224, device=device)
    run = (real_forward if kind == "forward" else real_step)(model, x)
    run()  # what is made once and kept is no part of a pass
    model.zero_grad(set_to_none=True)
    real = allocator_peak(run, device)
    told = counted_forward(model, x).peak_bytes if kind == "forward" else training_step(model, x).peak_bytes
    return _row(name, kind, device, told, real)


def main(target: Path) -> int:
    """Measure everything, print a table, write it; 1 where more than CEILING is missed outside ATTENTION."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for kind, names in (("forward", (*FORWARD, *ATTENTION)), ("step", STEP)):
            for name in names:
                rows.append(row := measured(name, kind, device))
                off = abs(row["ratio"] - 1)
                line = f"{name:32} {kind:8} {device:5} {row['counted']:>12,} {row['allocator']:>12,} {off:8.2%}"
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
    report = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), "threads": 1, "rows": rows}
    write_text(target, json.dumps(report, indent=1) + "\n")
    return int(any(abs(r["ratio"] - 1) > CEILING for r in rows if r["pass"] == "forward" and r["model"] in FORWARD))


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS))
