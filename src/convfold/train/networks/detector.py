"""Backbone, neck and a head per level: a detector, without the anchors, losses and suppression that training adds."""

from __future__ import annotations

from torch import Tensor, nn

from convfold.train.networks.backbone import Backbone
from convfold.train.networks.head import Head
from convfold.train.networks.neck import Neck
from convfold.transform import expand

__all__ = ["LEVELS", "Detector", "detector", "detector_repvgg"]

LEVELS = ("p3", "p4", "p5")


class Detector(nn.Module):
    """Images to a dict of nine maps: ``p3_classes``, ``p3_boxes``, ``p3_objectness``, and so for p4 and p5.

    For images (N, C, H, W), H and W multiples of 32, level p3 has (H/8, W/8), p4 (H/16, W/16), p5 (H/32, W/32); classes
    have num_classes channels, boxes 4, objectness 1, all before any sigmoid.
    """

    def __init__(self, backbone: Backbone, neck: Neck, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.heads = nn.ModuleList(Head(channels, num_classes) for channels in neck.channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for level, head, map_ in zip(LEVELS, self.heads, self.neck(self.backbone(x)), strict=True):
            found |= {f"{level}_{name}": value for name, value in head(map_)._asdict().items()}
        return found


def detector(
    num_classes: int = 80,
    *,
    width: float = 0.25,
    depth: float = 0.33,
    upsample: str = "transposed",
    in_channels: int = 3,
) -> Detector:
    """A plain detector of the structure of YOLOv6 (arXiv 2209.02976), of the size of YOLOv6-N by default.

    `width` scales channels (rounded up to eights), `depth` the number of convolutions in each stack; `upsample` is
    "transposed" (learned) or "nearest". Raises InvalidArgument where one of these, or `num_classes`, makes no network.

    >>> import torch
    >>> {name: tuple(map.shape) for name, map in detector(3, depth=0.1)(torch.zeros(1, 3, 64, 64)).items()}["p4_boxes"]
    (1, 4, 4, 4)
    """
    backbone = Backbone(in_channels, width, depth)
    return Detector(backbone, Neck(backbone.channels, width, depth, upsample), num_classes)


def detector_repvgg() -> nn.Module:
    """`detector()` with RepVGG for every 3x3 of backbone and neck, where the paper has it; for the command line."""
    return expand(detector(), "repvgg", where=lambda name, _: not name.startswith("heads."))
