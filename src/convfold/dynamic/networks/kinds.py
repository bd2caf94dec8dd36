"""Which convolution a reference network is made of: the one thing in which its variants differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from convfold.dynamic.layers import CondConv2d, CondLinear, DynamicConv2d, DyNetConv2d
from convfold.dynamic.routing import UniformRouter
from convfold.dynamic.shared import SharedRouter
from convfold.errors import InvalidArgument, UnknownName

__all__ = ["KINDS", "Kind", "routed"]

KINDS = ("static", "wide", "se", "uniform", "condconv", "dynamicconv", "dynet")
_EXPERTS = {"uniform": 4, "condconv": 8, "dynamicconv": 4, "dynet": 6}


def routed(conv: nn.Module, x: Tensor, routing: Tensor | None) -> Tensor:
    """The convolution, with coefficients of a router that its block shares, or without."""
    return conv(x) if routing is None else conv(x, routing=routing)  # type: ignore[no-any-return]


class Kind:
    """Makes the convolutions of one network, as the paper behind `name` does.

    | name | convolutions | coefficients |
    |---|---|---|
    | "static" | torch's | |
    | "wide" | torch's, the network twice as wide | |
    | "se" | torch's, a squeeze-and-excitation gate per block (1709.01507) | |
    | "uniform" | K kernels, their mean: a control that trains as many parameters without looking at the input | 1/K |
    | "condconv" | K = 8 kernels in the last blocks and the classifier (1904.04971) | one router per block |
    | "dynamicconv" | K = 4 kernels in every convolution but the first (1912.03458) | one router per convolution |
    | "dynet" | K = 6 kernels per output channel in every block (2004.10694) | one router per block |

    Convolutions have no bias: batch normalisation follows each. Raises UnknownName for another name, InvalidArgument
    for fewer than one expert.
    """

    def __init__(self, name: str = "static", num_experts: int | None = None) -> None:
        if name not in KINDS:
            raise UnknownName("unknown kind of convolution", got=repr(name), expected=f"one of {KINDS}")
        if num_experts is not None and num_experts < 1:
            raise InvalidArgument(
                "a mixture has at least one expert", where="num_experts", got=num_experts, expected="1 or more"
            )
        self.name = name
        self.num_experts = num_experts or _EXPERTS.get(name, 1)

    @property
    def shares(self) -> bool:
        """Whether the convolutions of a block share one router."""
        return self.name in ("condconv", "dynet")

    @property
    def width(self) -> float:
        """What all widths are multiplied by."""
        return 2.0 if self.name == "wide" else 1.0

    def first_dynamic(self, blocks: int, last: int) -> int:
        """Index of the first block of this kind: CondConv has the `last` blocks, the others all."""
        return max(blocks - last, 0) if self.name == "condconv" else 0

    def conv(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
        """A convolution inside a block, padded to keep the size at stride 1."""
        given: dict[str, Any] = {"stride": stride, "padding": size // 2, "groups": groups, "bias": False}
        mixed = {**given, "num_experts": self.num_experts}
        if self.name == "condconv":
            return CondConv2d(inputs, outputs, size, router=None, **mixed)
        if self.name == "dynet":
            return DyNetConv2d(inputs, outputs, size, router=None, **mixed)
        return self.alone(inputs, outputs, size, stride, groups)

    def alone(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
        """A convolution beside the blocks' own chain: mixed where every convolution is, with a router of its own."""
        given: dict[str, Any] = {"stride": stride, "padding": size // 2, "groups": groups, "bias": False}
        if self.name == "dynamicconv":
            return DynamicConv2d(inputs, outputs, size, num_experts=self.num_experts, **given)
        if self.name == "uniform":
            router = UniformRouter(inputs, self.num_experts)
            return CondConv2d(inputs, outputs, size, num_experts=self.num_experts, router=router, **given)
        return nn.Conv2d(inputs, outputs, size, **given)

    def router(self, inputs: int, outputs: Sequence[int], squeeze: int = 0) -> nn.Module | None:
        """The router of a block with convolutions of these output channels, where they share one, else None.

        With `squeeze` s its matrix has two factors, inputs -> s -> coefficients, as in DyNet's ResNets.
        """
        if not self.shares:
            return None
        shared = SharedRouter(inputs, outputs, self.num_experts, per_channel=self.name == "dynet")
        if squeeze:
            wide = shared.last.out_features
            shared.last = nn.Sequential(nn.Linear(inputs, squeeze), nn.Linear(squeeze, wide))  # type: ignore[assignment]
        return shared

    def gate(self, channels: int) -> nn.Module | None:
        """The gate at a block's end, for "se"."""
        return Gate(channels, max(channels // 4, 1)) if self.name == "se" else None

    def classifier(self, inputs: int, classes: int) -> nn.Module:
        """The last fully connected layer: mixed by CondConv alone."""
        if self.name == "condconv":
            return CondLinear(inputs, classes, num_experts=self.num_experts)
        return nn.Linear(inputs, classes)


class Gate(nn.Module):
    """Squeeze and excitation: ``y = x * g(W2 relu(W1 GAP(x)))``, a factor per channel; g is a sigmoid, hard or not.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507; hard: MobileNetV3, arXiv 1905.02244.
    """

    def __init__(self, channels: int, squeeze: int, *, hard: bool = False) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeeze)
        self.excite = nn.Linear(squeeze, channels)
        self.act: nn.Module = nn.Hardsigmoid() if hard else nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        factors = self.act(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        return x * factors[:, :, None, None]  # type: ignore[no-any-return]
