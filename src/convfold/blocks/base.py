"""What every training-time block shares: nn.Conv's signature, two modes, fold, nesting, and an exact start."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Norm, Op, Pads, apply
from convfold.algebra.protocol import op as read
from convfold.blocks.arguments import ConvArguments
from convfold.blocks.equation import Equation
from convfold.blocks.nesting import ConvFactory
from convfold.blocks.registry import BLOCKS, Registry
from convfold.errors import InvalidArgument, InvalidType

__all__ = ["Block", "ConvFactory", "Scale", "cannot_start", "start_conv"]


def cannot_start(block: nn.Module) -> InvalidArgument:
    """What a block says whose class does not contain every convolution."""
    return InvalidArgument(
        "it cannot start from a given kernel",
        where=type(block).__name__,
        got="a kernel outside its class",
        hint="expand(..., exact=False) puts it there with a new function.",
    )


class Block(Equation, ConvArguments):
    """A convolution written wide: trains as several operators, folds to one.

    A subclass makes its parameters in `_build`, defines `op`, its equation, and `start`, the parameters at which it
    equals a given convolution; feature mode, kernel mode, fold and cost follow from `op` alone. Arguments are those of
    ``nn.Conv{1,2,3}d``, then `conv`, what to build the inner convolutions with: None for torch's own, the
    name of a block, a tuple of names for deeper nesting, or a factory with nn.Conv's signature.

    Input (N, in_channels, *spatial), output (N, out_channels, *spatial'). Raises InvalidArgument for
    arguments that fit no convolution.
    """

    registry: ClassVar[Registry] = BLOCKS
    has_norm: ClassVar[bool] = False
    exact_in_training: ClassVar[bool] = True

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        """Why this block would add nothing in place of `conv`, or an empty string."""
        size: tuple[int, ...] = getattr(conv, "kernel_size", ())
        return "a 1x1 kernel has no smaller one to add" if all(k == 1 for k in size) else ""

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """Make the block compute ``norm(conv(x, weight) + bias)``; every part can still learn from there."""
        raise cannot_start(self)

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
