"""Networks of the CondConv and DynamicConv papers at their size: 224x224 images, 1000 classes.

Yang et al., NeurIPS 2019, arXiv 1904.04971 (8 experts); Chen et al., CVPR 2020, arXiv 1912.03458 (4 experts).
"""

from __future__ import annotations

from convfold.dynamic.networks.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3
from convfold.dynamic.networks.parts import Network
from convfold.dynamic.networks.resnet import resnet

__all__ = [
    "condconv_mobilenet_v1",
    "condconv_mobilenet_v2",
    "condconv_resnet50",
    "dynamicconv_mobilenet_v2",
    "dynamicconv_mobilenet_v3_small",
    "dynamicconv_resnet10",
    "dynamicconv_resnet18",
]


def condconv_mobilenet_v1(num_classes: int = 1000, *, num_experts: int = 8) -> Network:
    """CondConv from the sixth of the 13 blocks on, and in the classifier."""
    return mobilenet_v1(num_classes, "condconv", num_experts=num_experts)


def condconv_mobilenet_v2(num_classes: int = 1000, *, num_experts: int = 8, width: float = 1.0) -> Network:
    """CondConv in the last 6 of the 17 blocks, and in the classifier."""
    return mobilenet_v2(num_classes, "condconv", num_experts=num_experts, width=width)


def condconv_resnet50(num_classes: int = 1000, *, num_experts: int = 8) -> Network:
    """CondConv in the last 3 of the 16 blocks, and in the classifier."""
    return resnet(num_classes, "condconv", num_experts=num_experts, depths=(3, 4, 6, 3), bottleneck=True)


def dynamicconv_mobilenet_v2(num_classes: int = 1000, *, num_experts: int = 4, width: float = 1.0) -> Network:
    """DynamicConv in every convolution but the first."""
    return mobilenet_v2(num_classes, "dynamicconv", num_experts=num_experts, width=width)


def dynamicconv_mobilenet_v3_small(num_classes: int = 1000, *, num_experts: int = 4) -> Network:
    """DynamicConv in every convolution but the first; the network's own gates stay."""
    return mobilenet_v3(num_classes, "dynamicconv", num_experts=num_experts)


def dynamicconv_resnet10(num_classes: int = 1000, *, num_experts: int = 4) -> Network:
    """DynamicConv in every convolution but the first, one block per stage."""
    return resnet(num_classes, "dynamicconv", num_experts=num_experts, depths=(1, 1, 1, 1))


def dynamicconv_resnet18(num_classes: int = 1000, *, num_experts: int = 4) -> Network:
    """DynamicConv in every convolution but the first, shortcuts included."""
    return resnet(num_classes, "dynamicconv", num_experts=num_experts)
