"""A decoupled head: classes on one path, boxes and objectness on another (Ge et al., YOLOX, arXiv 2107.08430)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.train.networks.parts import conv_unit

__all__ = ["Head", "Predictions"]


class Predictions(NamedTuple):
    """What one level says of each position: (N, classes, H, W), (N, 4, H, W) and (N, 1, H, W), before any sigmoid."""

    classes: Tensor
    boxes: Tensor
    objectness: Tensor


class Head(nn.Module):
    """One level's map (N, channels, H, W) to its `Predictions`, at every position.

    A 1x1 unit, then a 3x3 unit for each path, then 1x1 convolutions. Raises InvalidArgument without a class.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise InvalidArgument("a head predicts classes", where="num_classes", got=num_classes, expected="1 or more")
        self.stem = conv_unit(channels, channels, 1)
        self.class_path, self.box_path = conv_unit(channels, channels), conv_unit(channels, channels)
        self.classes = nn.Conv2d(channels, num_classes, 1)
        self.boxes, self.objectness = nn.Conv2d(channels, 4, 1), nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Predictions:
        x = self.stem(x)
        place = self.box_path(x)
        return Predictions(self.classes(self.class_path(x)), self.boxes(place), self.objectness(place))
