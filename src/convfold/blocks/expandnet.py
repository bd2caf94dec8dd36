"""ExpandNets: a convolution as a chain of wider ones, without nonlinearity in between.

Guo, Alvarez and Salzmann, "ExpandNets: Linear Over-parameterization to Train Compact Convolutional Networks",
NeurIPS 2020, arXiv 1811.10495. Deep linear chains: Arora et al., 2018, arXiv 1802.06509.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import Op, Pads, chain_of
from convfold.blocks.base import Block
from convfold.blocks.chain_start import start_chain
from convfold.errors import InvalidArgument

__all__ = ["ExpandNet", "ExpandNetConv1d", "ExpandNetConv2d", "ExpandNetConv3d", "ExpandNetLinear"]


class ExpandNet(Block):
    """``y = W_l * (... * (W_1 * x))`` with r = `expansion` times the channels inside.

    * ``form="cl"``: 1x1 (C_in -> r C_in), k x k with the stride (-> r C_out), 1x1 (-> C_out).
    * ``form="ck"``: (k-1)/2 layers of 3x3, odd kernels of at least 5 on some axis only; an axis with a shorter
      kernel gets one-tap layers; the stride stands on the last.

    Padding stands on the first layer, so that the border folds exactly with biases inside; `groups` and
    `bias` hold for every layer. Receptive field before and after are equal.
    """

    name = "expandnet"

    def _build(self, *, form: str = "cl", expansion: int = 4) -> None:
        self._check(expansion)
        if form not in ("cl", "ck"):
            raise InvalidArgument("form is unknown", where=type(self).__name__, got=repr(form), expected="'cl' or 'ck'")
        self.form, self.expansion = form, expansion
        one = (1,) * self.dims
        if form == "cl":
            self._build_chain([one, self.kernel_size, one], middle=1, strided=1)
        else:
            sizes, middle = self._stack()
            self._build_chain(sizes, middle=middle, strided=len(sizes) - 1)

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        return ""  # a chain widens any kernel

    def _check(self, expansion: int) -> None:
        if not isinstance(expansion, int) or expansion < 1:
            raise InvalidArgument(
                "expansion is no whole factor",
                where=type(self).__name__,
                got=repr(expansion),
                expected="an integer of at least 1",
            )

    def _stack(self) -> tuple[list[tuple[int, ...]], int]:
        """Kernel sizes of form "ck", and which layer is the middle: the last to be narrowed on a short axis."""
        if any(k % 2 == 0 for k in self.kernel_size) or max(self.kernel_size) < 5:
            raise InvalidArgument(
                'form="ck" stacks 3x3 convolutions',
                where=type(self).__name__,
                got=f"kernel_size {self.kernel_size}",
                expected="odd sizes, 5 or more on some axis",
                hint='Use form="cl".',
            )
        layers = (max(self.kernel_size) - 1) // 2
        middle = layers // 2
        # From the middle outwards: the middle layer sees every axis, so that any kernel can be started from.
        outwards = sorted(range(layers), key=lambda layer: (abs(layer - middle), layer))
        sizes = [[1] * self.dims for _ in range(layers)]
        for axis, k in enumerate(self.kernel_size):
            for layer in outwards[: (k - 1) // 2]:
                sizes[layer][axis] = 3
        return [tuple(size) for size in sizes], middle

    def _build_chain(self, sizes: list[tuple[int, ...]], middle: int, strided: int) -> None:
        self.middle = middle
        wide_in, wide_out = self.expansion * self.in_channels, self.expansion * self.out_channels
        widths = [self.in_channels] + [wide_in] * middle + [wide_out] * (len(sizes) - 1 - middle) + [self.out_channels]
        self.layers = nn.ModuleList()
        for index, size in enumerate(sizes):
            options: dict[str, Any] = {"bias": self._bias}
            if self.dims:
                options["dilation"] = tuple(d if k > 1 else 1 for d, k in zip(self.dilation, size, strict=True))
                options["stride"] = self.stride if index == strided else 1
            make = self._plain if all(k == 1 for k in size) and self.dims else self._inner
            self.layers.append(make(widths[index], widths[index + 1], size, **options))

    def op(self) -> Op:
        first, *rest = self.layers
        ahead = self._grown(self.pads, self._overhang_of(*rest))
        none: Pads = ((0, 0),) * self.dims
        behind = (self._placed(layer, self._grown(none, self._overhang_of(layer), -1)) for layer in rest)
        return chain_of(self._placed(first, ahead), *behind)

    @property
    def overhang(self) -> tuple[int, ...]:
        return self._overhang_of(*self.layers)

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """Identity and shift banks around a middle kernel; see `convfold.blocks.chain_start`."""
        self._refuse_norm(norm)
        start_chain(list(self.layers), self.middle, weight, bias, self.groups)


class ExpandNetConv1d(ExpandNet):
    dims = 1


class ExpandNetConv2d(ExpandNet):
    dims = 2


class ExpandNetConv3d(ExpandNet):
    dims = 3


class ExpandNetLinear(ExpandNet):
    """The fully connected form: `depth` linear layers, ``y = W_l ... W_1 x + b``; input (..., in_features)."""

    dims = 0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        expansion: int = 4,
        depth: int = 3,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            (),
            bias=bias,
            device=device,
            dtype=dtype,
            expansion=expansion,
            depth=depth,
        )

    def _build(self, *, expansion: int = 4, depth: int = 3) -> None:  # type: ignore[override]
        self._check(expansion)
        if not isinstance(depth, int) or depth < 1:
            raise InvalidArgument(
                "depth is too small", where=type(self).__name__, got=repr(depth), expected="at least 1"
            )
        self.expansion, self.depth = expansion, depth
        self._build_chain([()] * depth, middle=depth // 2, strided=depth - 1)
