"""What the layers share: nn.Conv's signature, a registry of their own, and the spread of a fresh chain."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from convfold.algebra import Pads
from convfold.blocks.arguments import ConvArguments
from convfold.blocks.equation import Equation
from convfold.blocks.registry import BLOCKS, Registry
from convfold.errors import InvalidArgument
from convfold.geometry import nearest_groups
from convfold.layers.registry import LAYERS

__all__ = ["Layer", "LinearLayer", "check_count", "check_share", "scaled", "unit_gain"]

_TORCHS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Layer(ConvArguments):
    """A layer with the arguments of ``nn.Conv{1,2,3}d``, then `conv`, then options of its own.

    `conv` says what the spatial convolutions inside are: None for torch's own, the name of a block or of another
    layer, a tuple of names for deeper nesting, or a factory with nn.Conv's signature. Input (N, in_channels, *spatial)
    or without N. Raises InvalidArgument for arguments that fit no convolution.
    """

    registry: ClassVar[Registry] = LAYERS

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Input positions per axis that one output reads, from the first to the last: ``d*(k - 1) + 1``."""
        return tuple(axis.span for axis in self.window)

    @property
    def _no_pads(self) -> Pads:
        return ((0, 0),) * self.dims

    @property
    def _one(self) -> tuple[int, ...]:
        return (1,) * self.dims

    def _at_window(self) -> dict[str, Any]:
        """Stride and dilation of the layer's own window."""
        return {"stride": self.stride, "dilation": self.dilation}

    def _build_with(self, options: dict[str, Any]) -> None:
        if isinstance(self._conv, (str, tuple)):
            self._conv = self._factory((self._conv,) if isinstance(self._conv, str) else self._conv)
        super()._build_with(options)

    def _factory(self, names: tuple[str, ...]) -> Callable[..., nn.Module]:
        """What names for `conv` build, outermost first; a name that a block and a layer have is the block's."""
        outer = BLOCKS.joined(LAYERS, "block or layer").find(names[0], self.dims)
        return partial(outer, conv=self._factory(names[1:])) if names[1:] else outer


class LinearLayer(Equation, Layer):
    """A layer that is one convolution, written as cheaper ones.

    It runs as it is written (`mode` "feature"), composes its kernel on request (`mode` "kernel") and folds to the
    one convolution of the same arguments, dearer for most: `convfold.fold` leaves those alone, ``layer.fold()`` gives
    them. Only the last operator has a bias, and padding stands where zeros are harmless, so the fold is exact at
    the border.
    """

    default_mode: ClassVar[str | None] = "feature"


def scaled(module: nn.Module, factor: float) -> nn.Module:
    """torch's own convolution with its fresh kernel times `factor`; other modules as their class starts them."""
    if type(module) in _TORCHS:
        with torch.no_grad():
            module.weight.mul_(factor)  # type: ignore[operator]
    return module


def unit_gain(module: nn.Module) -> nn.Module:
    """A convolution inside a chain, started so that it keeps the variance.

    torch starts a kernel with variance 1/(3 fan_in), an output of a third of the input's variance: two in a chain
    would give a ninth. Three times that variance in all but the last leaves the chain at a third, as one convolution.
    """
    return scaled(module, math.sqrt(3))


def check_count(value: object, what: str, layer: nn.Module) -> int:
    """`value` where it is an integer of at least 1; raises InvalidArgument otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(
            f"{what} is not a positive integer",
            where=type(layer).__name__,
            got=repr(value),
            expected="an integer of at least 1",
        )
    return value


def check_share(value: int, what: str, layer: nn.Module, **channels: int) -> None:
    """Raise InvalidArgument, with the nearest numbers that do, where `value` does not divide all `channels`."""
    if all(count % value == 0 for count in channels.values()):
        return
    nearest = nearest_groups(value, *channels.values())
    raise InvalidArgument(
        f"{what} must divide {' and '.join(channels)}",
        where=type(layer).__name__,
        got=f"{what}={value} with {', '.join(f'{name}={count}' for name, count in channels.items())}",
        expected="a common divisor",
        hint=f"The nearest {'is' if len(nearest) == 1 else 'are'} {' and '.join(map(str, nearest))}.",
    )
