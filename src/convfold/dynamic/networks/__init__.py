"""Reference networks in which the kind of convolution is a parameter: at the papers' size, and small (`digits`)."""

from convfold.dynamic.networks import digits
from convfold.dynamic.networks.dynet import dy_mobile, dy_resnet18, dy_resnet50, dy_shuffle, shufflenet_v2
from convfold.dynamic.networks.kinds import KINDS, Kind
from convfold.dynamic.networks.mobilenet import V3_LARGE, V3_SMALL, mobilenet_v1, mobilenet_v2, mobilenet_v3
from convfold.dynamic.networks.papers import (
    condconv_mobilenet_v1,
    condconv_mobilenet_v2,
    condconv_resnet50,
    dynamicconv_mobilenet_v2,
    dynamicconv_mobilenet_v3_small,
    dynamicconv_resnet10,
    dynamicconv_resnet18,
)
from convfold.dynamic.networks.resnet import resnet, resnet18, resnet50

__all__ = [
    "KINDS",
    "V3_LARGE",
    "V3_SMALL",
    "Kind",
    "condconv_mobilenet_v1",
    "condconv_mobilenet_v2",
    "condconv_resnet50",
    "digits",
    "dy_mobile",
    "dy_resnet18",
    "dy_resnet50",
    "dy_shuffle",
    "dynamicconv_mobilenet_v2",
    "dynamicconv_mobilenet_v3_small",
    "dynamicconv_resnet10",
    "dynamicconv_resnet18",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "resnet",
    "resnet18",
    "resnet50",
    "shufflenet_v2",
]
