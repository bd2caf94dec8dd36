"""A module that is its equation: run as it is written, run as the one kernel that it is, and folded to that."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import Op, apply, kernel
from convfold.algebra.readings.module import fold_module
from convfold.errors import InvalidArgument

__all__ = ["MODES", "Equation"]

MODES = ("feature", "kernel")


class Equation(nn.Module):
    """Feature mode, kernel mode and fold, all read from `op`."""

    default_mode: ClassVar[str | None] = None
    _mode: str | None = None

    def op(self) -> Op:
        """Its equation, over its live parameters."""
        raise NotImplementedError

    @property
    def mode(self) -> str:
        """ "feature": run the operators as they are written; "kernel": compose one kernel and run one convolution.

        By default a module without batch statistics is in kernel mode, unless its class says otherwise: the same
        function and gradients, for about the price of a plain convolution.
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
        """The one plain module equal to this one: ``nn.Conv{1,2,3}d`` or its transpose, ``nn.Linear`` for 0 dims.

        Composed in float64, cast once. Raises NotFoldable when a batch normalisation inside is in training
        mode or a weight is not finite.
        """
        return fold_module(self)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
