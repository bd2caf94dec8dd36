"""The arguments of nn.Conv, checked and kept as torch keeps them: what blocks and layers are built with."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Self

import torch
from torch import nn

from convfold.blocks.nesting import ConvFactory, Nest
from convfold.blocks.registry import Registry
from convfold.errors import InvalidArgument
from convfold.geometry import conv_window
from convfold.geometry.groups import check_groups

__all__ = ["ConvArguments", "Named", "check_mode"]


def check_mode(padding_mode: str, where: str) -> None:
    """Raise InvalidArgument for a padding mode that torch has not."""
    if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
        raise InvalidArgument(
            "padding_mode is unknown",
            where=where,
            got=repr(padding_mode),
            expected="'zeros', 'reflect', 'replicate' or 'circular'",
        )


class Named(Nest):
    """Built with a convolution's arguments, then with what `_build` takes; found by its name once it gives `dims`."""

    registry: ClassVar[Registry]
    name: ClassVar[str]
    default_dilation: ClassVar[int] = 1
    default_padding: ClassVar[int | str] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "dims" in cls.__dict__:
            cls.registry.register(cls)
        if "__init__" not in cls.__dict__:
            shared = [p for p in inspect.signature(cls.__init__).parameters.values() if p.kind is not p.VAR_KEYWORD]
            own = list(inspect.signature(cls._build).parameters.values())[1:]
            defaults = {"dilation": cls.default_dilation, "padding": cls.default_padding}
            shared = [p.replace(default=defaults.get(p.name, p.default)) for p in shared[1:]]
            cls.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]

    def _build_with(self, options: dict[str, Any]) -> None:
        """Call `_build` with `options`, whatever they are named."""
        try:
            inspect.signature(self._build).bind(**options)
        except TypeError as error:
            own = ", ".join(inspect.signature(self._build).parameters) or "none"
            raise InvalidArgument(f"{error}", where=type(self).__name__, expected=f"its own options: {own}") from error
        self._build(**options)
        # Only building needs them; kept, a factory would hinder pickling, and a placement would become untrue.
        del self._conv, self._placement

    def _build(self) -> None:
        """Make parameters and submodules; a subclass' own options are its keyword-only parameters."""
        raise NotImplementedError


class ConvArguments(Named):
    """The arguments of ``nn.Conv{1,2,3}d``, then `conv`, then what `_build` takes.

    Raises InvalidArgument for arguments that fit no convolution.
    """

    in_channels: int
    out_channels: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str | None = None,
        dilation: int | tuple[int, ...] | None = None,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        conv: ConvFactory = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_groups(in_channels, out_channels, groups)
        check_mode(padding_mode, type(self).__name__)
        padding = self.default_padding if padding is None else padding
        dilation = self.default_dilation if dilation is None else dilation
        self.window = conv_window(self.dims, kernel_size, stride, padding, dilation)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = tuple(axis.kernel for axis in self.window)
        self.stride = tuple(axis.stride for axis in self.window)
        self.dilation = tuple(axis.dilation for axis in self.window)
        self.padding = padding if isinstance(padding, str) else tuple(axis.lo for axis in self.window)
        self.padding_mode = padding_mode
        self._bias = bias
        self._conv = conv
        self._placement = {"device": device, "dtype": dtype}
        self._build_with(options)

    @classmethod
    def in_place_of(cls, layer: nn.Module, bias: bool, placement: dict[str, Any], **options: Any) -> Self:
        """What stands for a torch convolution or Linear: with its arguments, on the given device and in the dtype."""
        if isinstance(layer, nn.Linear):
            return cls(layer.in_features, layer.out_features, bias=bias, **placement, **options)
        same = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        arguments = {name: getattr(layer, name) for name in (*same, "padding_mode")}
        return cls(**{**arguments, "bias": bias, **placement, **options})

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}"
        if self.dims:
            text += f", kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}"
        if any(d != 1 for d in self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if not self._bias:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode!r}"
        return text
