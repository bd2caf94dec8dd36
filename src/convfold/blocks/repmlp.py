"""RepMLP: fully connected over partitions of the map, with local convolutions folded into it.

Ding et al., "RepMLPNet: Hierarchical Vision MLP with Re-parameterized Locality", CVPR 2022, arXiv 2112.11081; first as
"RepMLP", 2021, arXiv 2105.01883.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, Flat, Op, apply, kernel, sum_of
from convfold.algebra import op as read
from convfold.algebra.grouped import GroupedLinear
from convfold.algebra.readings.module import fold_module
from convfold.blocks.base import Scale, cannot_start
from convfold.blocks.equation import MODES
from convfold.blocks.registry import BLOCKS
from convfold.errors import InvalidArgument
from convfold.geometry import conv_window

__all__ = ["Perceptron", "RepMLP2d"]


class Perceptron(nn.Module):
    """The linear part on one partition: ``y = BN(W x) + sum_k BN_k(K_k * x)`` on S maps of h x w, flattened.

    W is fully connected inside each of the S share sets, K_k depthwise. Input and output (..., S*h*w). With `scaled`
    a learned factor per share set stands in place of each batch normalisation.
    """

    def __init__(
        self, sets: int, size: tuple[int, int], kernel_sizes: Sequence[int], scaled: bool, **placement: Any
    ) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return Scale(sets, 2, **placement) if scaled else nn.BatchNorm2d(sets, **placement)

        self.sets, self.size = sets, size
        features = sets * size[0] * size[1]
        self.linear = GroupedLinear(features, features, sets, bias=False, **placement)
        self.norm = norm()
        self.local = nn.ModuleList(
            nn.Conv2d(sets, sets, k, padding=k // 2, groups=sets, bias=False, **placement) for k in kernel_sizes
        )
        self.local_norms = nn.ModuleList(norm() for _ in kernel_sizes)

    def _flat(self, inner: Op) -> Flat:
        return Flat(inner, self.size, self.size)

    def op(self) -> Op:
        terms: list[Op] = [self.linear.op() >> self._flat(read(self.norm))]
        for conv, norm in zip(self.local, self.local_norms, strict=True):
            k, pad = conv.kernel_size, conv.padding
            depthwise = Conv(conv.weight, None, conv_window(2, k, 1, pad), self.sets)  # type: ignore[arg-type]
            terms.append(self._flat(depthwise >> read(norm)))
        return sum_of(*terms)

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.op(), x)


class RepMLP2d(nn.Module):
    """``y = sigmoid(fc2(relu(fc1(mean(x))))) * P(x)``: a gate from the whole map, P linear on each h x w partition.

    The map is cut into partitions of `height` x `width`, which must divide it; the channels into share sets of
    `groups`; P is fully connected over the positions of a partition, plus depthwise convolutions of
    `kernel_sizes`, each with its batch normalisation, or with ``norm="scale"`` a learned factor per share set. `fold`
    takes everything linear into one fully connected layer with bias; the gate stays. It needs
    ``groups * (height*width)^2`` weights.

    Input and output (N, C, H, W), in_channels = out_channels. Raises InvalidArgument for arguments or maps that do not
    fit.
    """

    name = "repmlp"
    dims = 2
    has_norm = False
    exact_in_training = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        height: int,
        width: int,
        kernel_sizes: Sequence[int] = (1, 3),
        groups: int = 1,
        reduction: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str = "bn",
    ) -> None:
        super().__init__()
        if norm not in ("bn", "scale"):
            raise InvalidArgument("norm is unknown", where="RepMLP2d", got=repr(norm), expected="'bn' or 'scale'")
        if in_channels != out_channels:
            raise InvalidArgument(
                "repmlp keeps its channels", where="RepMLP2d", got=f"{in_channels} -> {out_channels}", expected="equal"
            )
        if groups < 1 or in_channels % groups:
            raise InvalidArgument(
                "groups must divide the channels",
                where="RepMLP2d",
                got=f"{groups} share sets of {in_channels} channels",
            )
        if any(k % 2 == 0 or k < 1 for k in kernel_sizes):
            raise InvalidArgument("the local kernels must be odd", where="RepMLP2d", got=tuple(kernel_sizes))
        if min(height, width, reduction) < 1:
            raise InvalidArgument("height, width and reduction count from 1", got=(height, width, reduction))
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.height, self.width = height, width
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Linear(in_channels, hidden, **placement)
        self.excite = nn.Linear(hidden, in_channels, **placement)
        scaled = norm == "scale"
        self.partition: nn.Module = Perceptron(groups, (height, width), kernel_sizes, scaled, **placement)
        self._mode = "kernel" if scaled else "feature"

    @property
    def mode(self) -> str:
        """ "feature": run the branches; "kernel": compose one fully connected layer."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise InvalidArgument("mode is unknown", where="RepMLP2d", got=repr(mode), expected="'feature' or 'kernel'")
        self._mode = mode

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        return ""

    @classmethod
    def in_place_of(cls, layer: nn.Conv2d, bias: bool, placement: dict[str, Any], **options: Any) -> RepMLP2d:
        """A new function on the same maps; `options` name the partition's height and width."""
        if not {"height", "width"} <= set(options):
            raise InvalidArgument(
                "repmlp needs the partition",
                where="RepMLP2d",
                got=options,
                expected="height=, width= that divide the map",
            )
        same = all(
            2 * p == d * (k - 1) for p, d, k in zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
        )
        if layer.stride != (1, 1) or not same:
            raise InvalidArgument("repmlp keeps the size of the map", where="RepMLP2d", got=repr(layer))
        return cls(layer.in_channels, layer.out_channels, **options, **placement)

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """A convolution is not in its class: raises InvalidArgument."""
        raise cannot_start(self)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        rows, columns = height // self.height, width // self.width
        # Said as a remainder, torch.export knows for open sizes too that the partitions fit, and need not work it out.
        if height % self.height or width % self.width:
            raise InvalidArgument(
                "the partition does not divide the map",
                where="RepMLP2d",
                got=f"a map of {height} x {width}",
                expected=f"multiples of {self.height} x {self.width}",
                hint="Pad the map, or build the block with another height and width.",
            )
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3))))))
        cut = x.reshape(n, c, rows, self.height, columns, self.width).permute(0, 2, 4, 1, 3, 5)
        flat = cut.reshape(-1, self.groups * self.height * self.width)
        y = self._linear(flat).reshape(n, rows, columns, c, self.height, self.width)
        return y.permute(0, 3, 1, 4, 2, 5).reshape(n, c, height, width) * gate.reshape(n, c, 1, 1)

    def _linear(self, flat: Tensor) -> Tensor:
        if self._mode == "kernel" and isinstance(self.partition, Perceptron):
            return apply(kernel(self.partition.op()), flat)
        return self.partition(flat)  # type: ignore[no-any-return]

    def fold(self) -> RepMLP2d:
        """The same block without its local part: one fully connected layer per partition, with bias.

        Raises NotFoldable when a batch normalisation is in training mode or a weight is not finite.
        """
        folded = copy.deepcopy(self)
        folded.partition = fold_module(self.partition)
        return folded

    def extra_repr(self) -> str:
        return f"{self.in_channels}, partition={self.height}x{self.width}, groups={self.groups}, mode={self.mode!r}"


BLOCKS.register(RepMLP2d)
