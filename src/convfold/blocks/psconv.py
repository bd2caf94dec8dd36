"""PSConv: dilations that cycle over pairs of channel blocks inside one kernel.

Li, Yao and Chen, "PSConv: Squeezing Feature Pyramid into One Compact Poly-Scale Convolutional Layer", ECCV 2020,
arXiv 2007.06191.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convfold.algebra import Op, Pads, Select, chain_of, sum_of
from convfold.blocks.base import Block
from convfold.errors import InvalidArgument
from convfold.geometry import conv_window

__all__ = ["PSConv", "PSConv1d", "PSConv2d", "PSConv3d"]


class Part(NamedTuple):
    """One convolution of the block: the offsets between output and input block that it serves, and its window."""

    offsets: tuple[int, ...]
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]


class PSConv(Block):
    """``y[q] = sum_p W_{q,p} * x[p]``, the window of W_{q,p} chosen by ``(p - q) mod P``; P = `parts` blocks a group.

    * ``variant="dilation"`` (the paper): offset 0 has dilation D, offset P/2 has 2D, the others 1; `dilation`
      is D (default 2) and `padding` counts for the undilated kernel, each part adds (d-1)*(k//2).
    * ``variant="shape"`` stays inside k x k: offset 0 has k x k, 1 has k x 1, P/2 has 1 x 1, the others 1 x k.

    Runs one convolution per distinct dilation or shape, over the input blocks in the order in which the output
    blocks read them: exactly the multiply-accumulates of the plain convolution, where the published masked form
    takes 1 + 2/P of them. Folds to one kernel of 2D(k-1)+1 taps, nine times the work for k = 3, D = 2: so
    feature mode is the default. Odd kernels; `groups` repeats the pattern inside each group. Kernels start as
    the published ones: the undilated part with the fan-in of the whole convolution.
    """

    name = "psconv"
    default_dilation = 2
    default_mode = "feature"

    def _build(self, *, parts: int = 4, variant: str = "dilation") -> None:
        if variant not in ("dilation", "shape"):
            raise InvalidArgument(
                "variant is unknown", where=type(self).__name__, got=repr(variant), expected="'dilation' or 'shape'"
            )
        if any(k % 2 == 0 for k in self.kernel_size):
            raise InvalidArgument("psconv needs odd kernels", where=type(self).__name__, got=self.kernel_size)
        width = self.groups * parts if isinstance(parts, int) and parts > 1 and parts % 2 == 0 else 0
        if not width or self.in_channels % width or self.out_channels % width:
            raise InvalidArgument(
                "parts must be even and divide the channels of each group",
                where=type(self).__name__,
                got=f"parts={parts} for {self.in_channels} -> {self.out_channels} channels in {self.groups} groups",
            )
        self.num_parts, self.variant = parts, variant
        self.window = conv_window(self.dims, self.kernel_size, self.stride, self.padding, 1)
        if variant == "shape":
            if any(d not in (1, self.default_dilation) for d in self.dilation):
                raise InvalidArgument(
                    'variant="shape" has no dilation: it stays inside its window',
                    where=type(self).__name__,
                    got=self.dilation,
                    expected="1, or none named",
                )
            self.dilation = (1,) * self.dims
        self.parts = nn.ModuleList(self._part(part) for part in self._layout())

    @classmethod
    def in_place_of(cls, layer: nn.Module, bias: bool, placement: dict[str, Any], **options: Any) -> Block:
        """The published pattern around the layer's own dilation d: D = 2d, on maps of the size that the layer gives."""
        size: tuple[int, ...] = layer.kernel_size  # type: ignore[assignment]
        own: tuple[int, ...] = layer.dilation  # type: ignore[assignment]
        padding: tuple[int, ...] | str = layer.padding  # type: ignore[assignment]
        if padding != "same":
            given = (0,) * cls.dims if isinstance(padding, str) else padding
            padding = tuple(p - (d - 1) * (k // 2) for p, d, k in zip(given, own, size, strict=True))
            if min(padding) < 0:
                raise InvalidArgument(
                    "psconv pads each part by its dilation, which gives a larger map than this layer does",
                    where=cls.__name__,
                    got=repr(layer),
                    expected="padding of at least (dilation - 1) * (kernel_size // 2)",
                )
        dilation = tuple(2 * d for d in own)
        return super().in_place_of(layer, bias, placement, **{"dilation": dilation, "padding": padding, **options})

    def _layout(self) -> list[Part]:
        every, half, one = range(self.num_parts), self.num_parts // 2, (1,) * self.dims
        if self.variant == "dilation":
            twice = tuple(2 * d for d in self.dilation)
            others = tuple(o for o in every if o not in (0, half))
            found = [((0,), self.dilation), (others, one), ((half,), twice)]
            return [Part(offsets, self.kernel_size, dilation) for offsets, dilation in found if offsets]
        tall, flat = (self.kernel_size[0], *one[1:]), (1, *self.kernel_size[1:])
        others = tuple(o for o in every if o not in (0, 1, half))
        shapes = [((0,), self.kernel_size), ((1,), tall), ((half,) if half > 1 else (), one), (others, flat)]
        return [Part(offsets, size, one) for offsets, size in shapes if offsets]

    def _part(self, part: Part) -> nn.Module:
        inputs = self.in_channels * len(part.offsets)
        first = part.offsets == (0,)
        module = self._inner(
            inputs,
            self.out_channels,
            part.kernel_size,
            stride=self.stride,
            dilation=part.dilation,
            groups=self.groups * self.num_parts,
            bias=self._bias and first,
        )
        weight = getattr(module, "weight", None)
        if len(part.offsets) > 1 and isinstance(weight, Tensor):
            with torch.no_grad():
                weight.mul_((len(part.offsets) / self.num_parts) ** 0.5)
        return module

    def _gather(self, offsets: tuple[int, ...]) -> Select | None:
        """For each output block the input blocks at these offsets, in order."""
        if offsets == (0,):
            return None
        blocks, width = self.num_parts, self.in_channels // self.groups // self.num_parts
        index = [
            (g * blocks + (q + offset) % blocks) * width + c
            for g in range(self.groups)
            for q in range(blocks)
            for offset in offsets
            for c in range(width)
        ]
        return Select(tuple(index), self.in_channels, self.dims)

    def _pads_of(self, part: Part) -> Pads:
        if self.variant == "shape":
            return self._centred(part.kernel_size)
        return self._grown(self.pads, self._beyond(part))

    def _beyond(self, part: Part) -> tuple[int, ...]:
        """What a dilated part reads beyond the undilated window, on either side of each axis."""
        if self.variant == "shape":
            return (0,) * self.dims
        return tuple((d - 1) * (k // 2) for d, k in zip(part.dilation, part.kernel_size, strict=True))

    @property
    def overhang(self) -> tuple[int, ...]:
        inner = [self._overhang_of(conv) for conv in self.parts]
        beyond = [self._beyond(part) for part in self._layout()]
        return self._most([tuple(map(sum, zip(a, b, strict=True))) for a, b in zip(inner, beyond, strict=True)])

    def op(self) -> Op:
        layout = zip(self.parts, self._layout(), strict=True)
        return sum_of(
            *(chain_of(self._gather(part.offsets), self._placed(conv, self._pads_of(part))) for conv, part in layout)
        )


class PSConv1d(PSConv):
    dims = 1


class PSConv2d(PSConv):
    dims = 2


class PSConv3d(PSConv):
    dims = 3
