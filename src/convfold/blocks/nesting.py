"""How a block builds the convolutions inside it, any of which may be a block again, and where their padding stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from torch import nn

from convfold.algebra import Conv, Op, Pad, Pads
from convfold.algebra.protocol import op as read
from convfold.blocks.registry import build
from convfold.errors import InvalidArgument
from convfold.geometry import Axis, Window, conv_window, embed

__all__ = ["ConvFactory", "Nest"]

ConvFactory = str | tuple[str, ...] | Callable[..., nn.Module] | None
_CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Nest(nn.Module):
    """What a block builds with, and places its convolutions in its equation with."""

    dims: ClassVar[int]
    window: Window
    groups: int
    padding_mode: str
    _conv: ConvFactory
    _placement: dict[str, Any]

    @property
    def pads(self) -> Pads:
        """Padding before and after, per axis."""
        return tuple((axis.lo, axis.hi) for axis in self.window)

    def _plain(self, inputs: int, outputs: int, kernel_size: tuple[int, ...], **options: Any) -> nn.Module:
        """torch's own convolution without padding: padding belongs to the equation."""
        if not self.dims:
            return nn.Linear(inputs, outputs, bias=options.get("bias", False), **self._placement)
        options = {"groups": self.groups, "bias": False, **options}
        return _CONVS[self.dims](inputs, outputs, kernel_size, **options, **self._placement)  # type: ignore[no-any-return]

    def _asked(self, inputs: int, outputs: int, kernel_size: tuple[int, ...], **options: Any) -> nn.Module:
        """The convolution that `conv` asks for, torch's own by default, with `options` as they are."""
        options = {"groups": self.groups, "bias": False, **options, **self._placement}
        if self._conv is None:
            return _CONVS[self.dims](inputs, outputs, kernel_size, **options)  # type: ignore[no-any-return]
        if callable(self._conv):
            return self._conv(inputs, outputs, kernel_size, **options)
        chosen = (self._conv,) if isinstance(self._conv, str) else self._conv
        more = {"conv": chosen[1:]} if chosen[1:] else {}
        return build(chosen[0], self.dims, inputs, outputs, kernel_size, **options, **more)  # type: ignore[no-any-return]

    def _inner(self, inputs: int, outputs: int, kernel_size: tuple[int, ...], **options: Any) -> nn.Module:
        """The convolution that `conv` asks for, without padding."""
        if self._conv is None:
            return self._plain(inputs, outputs, kernel_size, **options)
        wanted = conv_window(self.dims, kernel_size, options.get("stride", 1), 0, options.get("dilation", 1))
        module = self._asked(inputs, outputs, kernel_size, **options)
        given = getattr(module, "window", wanted)
        if [(a.span, a.stride, a.slack) for a in given] != [(a.span, a.stride, a.slack) for a in wanted]:
            raise InvalidArgument(
                "the window of the nested block is not the one that stands here",
                where=type(self).__name__,
                got=repr(module).splitlines()[0].removesuffix("("),
                expected=f"kernel_size {kernel_size}, dilation {options.get('dilation', 1)}",
                hint="Nest another block here, or build this one without dilation.",
            )
        if isinstance(module, Nest):
            # What it pads by itself is left to this block, which knows where zeros are harmless: see `_placed`.
            module.window = tuple(a.shifted(-e, -e) for a, e in zip(module.window, module.overhang, strict=True))
        return module

    @property
    def overhang(self) -> tuple[int, ...]:
        """How far the block reads beyond its own window, per axis, before and after alike: psconv's dilated parts."""
        return self._most([self._overhang_of(module) for module in self._direct()])

    def _direct(self) -> Iterator[nn.Module]:
        for child in self.children():
            yield from child if isinstance(child, nn.ModuleList) else (child,)

    def _most(self, reaches: list[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(max(axis) for axis in zip(*reaches, strict=True)) if reaches else (0,) * self.dims

    def _overhang_of(self, *modules: nn.Module) -> tuple[int, ...]:
        reaches = [m.overhang for m in modules if isinstance(m, Nest)]
        return tuple(sum(axis) for axis in zip(*reaches, strict=True)) if reaches else (0,) * self.dims

    @staticmethod
    def _grown(pads: Pads, more: tuple[int, ...], sign: int = 1) -> Pads:
        return tuple((lo + sign * m, hi + sign * m) for (lo, hi), m in zip(pads, more, strict=True))

    def _placed(self, module: nn.Module, pads: Pads) -> Op:
        """`module` on an input padded by `pads` and by its overhang, in the block's padding mode."""
        inner = read(module)
        pads = self._grown(pads, self._overhang_of(module))
        if isinstance(inner, Conv):
            window: Window = tuple(a.shifted(lo, hi) for a, (lo, hi) in zip(inner.window, pads, strict=True))
            return Conv(inner.weight, inner.bias, window, inner.groups, self.padding_mode)
        return Pad(inner.in_channels, pads, self.padding_mode) >> inner if any(map(any, pads)) else inner

    def _centred(self, kernel_size: tuple[int, ...]) -> Pads:
        """The padding that centres a smaller kernel in the block's window."""
        axes = (embed(axis, k) for axis, k in zip(self.window, kernel_size, strict=True))
        return tuple((axis.lo, axis.hi) for axis in axes)

    def _window(self, pads: Pads) -> Window:
        """The block's window with other padding."""
        return tuple(
            Axis(a.kernel, a.stride, a.dilation, lo, hi) for a, (lo, hi) in zip(self.window, pads, strict=True)
        )

    def _split_pads(self, *behind: nn.Module) -> tuple[Pads, Pads]:
        """Padding before and after a 1x1 that stands in front of a larger kernel, the module `behind` it.

        Zero padding stands before it, whose response then fills the border; other modes commute with a 1x1.
        """
        nothing, more = ((0, 0),) * self.dims, self._overhang_of(*behind)
        if self.padding_mode != "zeros":
            return nothing, self.pads
        return self._grown(self.pads, more), self._grown(nothing, more, -1)
