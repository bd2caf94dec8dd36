"""What every training-time block shares: nn.Conv's signature, two modes, fold, nesting, and an exact start."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Norm, Op, Pads, apply, kernel
from convfold.algebra.protocol import op as read
from convfold.algebra.readings.module import fold_module
from convfold.blocks.nesting import ConvFactory, Nest
from convfold.blocks.registry import register
from convfold.errors import InvalidArgument, InvalidType
from convfold.geometry import conv_window
from convfold.geometry.groups import check_groups

__all__ = ["Block", "ConvFactory", "Scale", "cannot_start", "start_conv"]

MODES = ("feature", "kernel")


def cannot_start(block: nn.Module) -> InvalidArgument:
    """What a block says whose class does not contain every convolution."""
    return InvalidArgument(
        "it cannot start from a given kernel",
        where=type(block).__name__,
        got="a kernel outside its class",
        hint="expand(..., exact=False) puts it there with a new function.",
    )


class Block(Nest):
    """A convolution written wide: trains as several operators, folds to one.

    A subclass makes its parameters in `_build`, defines `op`, its equation, and `start`, the parameters at which it
    equals a given convolution; feature mode, kernel mode, fold and cost follow from `op` alone. Arguments are those of
    ``nn.Conv{1,2,3}d``, then `conv`, what to build the inner convolutions with: None for torch's own, the
    name of a block, a tuple of names for deeper nesting, or a factory with nn.Conv's signature.

    Input (N, in_channels, *spatial), output (N, out_channels, *spatial'). Raises InvalidArgument for
    arguments that fit no convolution.
    """

    name: ClassVar[str]
    dims: ClassVar[int]
    has_norm: ClassVar[bool] = False
    exact_in_training: ClassVar[bool] = True
    default_dilation: ClassVar[int] = 1
    default_mode: ClassVar[str | None] = None
    in_channels: int
    out_channels: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "dims" in cls.__dict__:
            register(cls)
        if "__init__" not in cls.__dict__:
            shared = list(inspect.signature(Block.__init__).parameters.values())[1:-1]
            own = list(inspect.signature(cls._build).parameters.values())[1:]
            shared = [p.replace(default=cls.default_dilation) if p.name == "dilation" else p for p in shared]
            cls.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
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
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise InvalidArgument(
                "padding_mode is unknown",
                where=type(self).__name__,
                got=repr(padding_mode),
                expected="'zeros', 'reflect', 'replicate' or 'circular'",
            )
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
        self._placement: dict[str, Any] = {"device": device, "dtype": dtype}
        self._mode: str | None = None
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

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        """Why this block would add nothing in place of `conv`, or an empty string."""
        size: tuple[int, ...] = getattr(conv, "kernel_size", ())
        return "a 1x1 kernel has no smaller one to add" if all(k == 1 for k in size) else ""

    @classmethod
    def in_place_of(cls, layer: nn.Module, bias: bool, placement: dict[str, Any], **options: Any) -> Block:
        """The block with the arguments of a torch convolution or Linear, on the given device and in the dtype."""
        if isinstance(layer, nn.Linear):
            return cls(layer.in_features, layer.out_features, bias=bias, **placement, **options)
        same = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        arguments = {name: getattr(layer, name) for name in (*same, "padding_mode")}
        return cls(**{**arguments, "bias": bias, **placement, **options})

    def op(self) -> Op:
        """The block's equation, over its live parameters."""
        raise NotImplementedError

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """Make the block compute ``norm(conv(x, weight) + bias)``; every part can still learn from there."""
        raise cannot_start(self)

    @property
    def mode(self) -> str:
        """ "feature": run the branches; "kernel": compose one kernel and run one convolution.

        By default a block without batch statistics is in kernel mode: the same function and gradients, for
        about the price of a plain convolution.
        """
        if self._mode is None and self.default_mode is not None:
            return self.default_mode
        if self._mode is None:
            has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.modules())
            return "feature" if has_statistics else "kernel"
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise InvalidArgument(
                "mode is unknown", where=type(self).__name__, got=repr(mode), expected="'feature' or 'kernel'"
            )
        self._mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "feature":
            return apply(self.op(), x)
        kind = x.device.type
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return apply(kernel(self.op()), x)
        # Under autocast the composition itself keeps its precision; only the convolution runs in half.
        with torch.autocast(kind, enabled=False):
            composed = kernel(self.op())
        return apply(composed, x)

    def fold(self) -> nn.Module:
        """The one plain module equal to this block: ``nn.Conv{1,2,3}d``, or ``nn.Linear`` for 0 dims.

        Composed in float64, cast once. Raises NotFoldable when a batch normalisation inside is in training
        mode or a weight is not finite.
        """
        return fold_module(self)

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
        return f"{text}, mode={self.mode!r}"

    def _refuse_norm(self, norm: nn.Module | None) -> None:
        if norm is not None:
            raise InvalidArgument(f"{self.name} has no normalisation of its own", got="a norm to start from")

    def _after(self, norm: nn.Module | None, ring: Pads | None = None) -> Op | None:
        """The operator of a branch's normalisation, or None where there is none."""
        if norm is None:
            return None
        found = read(norm, dims=self.dims)
        return Norm(found.module, found.dims, ring) if isinstance(found, Norm) else found


class Scale(nn.Module):
    """A learned factor per channel, ``y = v * x``: what stands for a batch normalisation in weight space.

    Linear scaling after OREPA (Hu et al., 2022, arXiv 2204.00826).
    """

    def __init__(self, channels: int, dims: int, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dims = dims
        self.weight = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))

    def op(self) -> Op:
        return Affine(self.weight, None, self.dims)

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.op(), x)


def start_conv(module: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Make an inner convolution, a block or torch's own, compute ``conv(x, weight) + bias``."""
    if isinstance(module, Block):
        module.start(weight, bias)
        return
    target = getattr(module, "weight", None)
    if not isinstance(target, Tensor) or target.shape != weight.shape:
        raise InvalidType(
            "an inner convolution cannot be started from a given kernel",
            where=type(module).__name__,
            expected=f"a convfold block, or a module with a weight of shape {tuple(weight.shape)}",
            hint="Train from its own initialisation, or use a block's name for conv=.",
        )
    with torch.no_grad():
        target.copy_(weight)
        held = getattr(module, "bias", None)
        if isinstance(held, Tensor):
            held.copy_(torch.zeros_like(held) if bias is None else bias)
