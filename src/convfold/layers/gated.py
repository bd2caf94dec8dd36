"""Gated convolution: half of the outputs say how much of the other half passes.

1-D: Dauphin et al., "Language Modeling with Gated Convolutional Networks", ICML 2017, arXiv 1612.08083. 2-D: Yu et al.,
"Free-Form Image Inpainting with Gated Convolution", ICCV 2019, arXiv 1806.03589.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import Pad, apply
from convfold.errors import InvalidArgument
from convfold.layers.base import Layer

__all__ = ["Gated", "GatedConv1d", "GatedConv2d", "GatedConv3d"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class Gated(Layer):
    """``y = phi(V * x + b) . sigmoid(W * x + c)``, the product element by element.

    One convolution makes both, of 2*C_out channels; with groups g, each group makes its own values and gates. In 1-D
    phi is the identity by default (the gated linear unit of language models), in 2-D and 3-D an ELU (inpainting: the
    gate is a soft mask, learned per channel and position); `activation` names another ("linear", "elu", "leaky_relu",
    "relu", "tanh") or is a module. ``causal=True``, 1-D only: padded before the sequence by ``d*(k - 1)``, so an output
    reads nothing after its own position; `padding` is then 0.

    Not linear: no fold for the whole; the convolution inside folds where `conv` makes it wide. Where it is torch's own,
    its values start with twice the usual spread, which the gate about halves (Gehring et al., arXiv 1705.03122).

    Cost per sample, T taps, P output positions: MACs ``2*P*T*C_in*C_out/g``; parameters ``2*(T*C_in*C_out/g)``, 2*C_out
    more with a bias.
    """

    name = "gated"
    default_activation: ClassVar[str] = "elu"

    def _build(self, *, activation: str | nn.Module | None = None, causal: bool = False) -> None:
        chosen = self.default_activation if activation is None else activation
        if not isinstance(chosen, nn.Module) and chosen not in _ACTIVATIONS:
            raise InvalidArgument(
                "activation is unknown",
                where=type(self).__name__,
                got=repr(chosen),
                expected=f"a module, or one of {sorted(_ACTIVATIONS)}",
            )
        self.activation = chosen if isinstance(chosen, nn.Module) else _ACTIVATIONS[chosen]()
        self.causal = causal
        if causal:
            self._check_causal()
        pads = 0 if causal else self.padding
        mode = "zeros" if causal else self.padding_mode
        self.conv = self._asked(
            self.in_channels,
            2 * self.out_channels,
            self.kernel_size,
            padding=pads,
            padding_mode=mode,
            bias=self._bias,
            **self._at_window(),
        )
        if type(self.conv) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
            with torch.no_grad():
                self.conv.weight.reshape(self.groups, 2, -1)[:, 0].mul_(2)  # type: ignore[operator]

    def _check_causal(self) -> None:
        if self.dims != 1:
            raise InvalidArgument(
                "only a sequence has an order to be causal in",
                where=type(self).__name__,
                got=f"causal=True in {self.dims}-D",
            )
        if isinstance(self.padding, str) or any(self.padding):
            raise InvalidArgument(
                "a causal convolution pads by itself",
                where=type(self).__name__,
                got=f"padding={self.padding!r}",
                expected="padding 0",
            )

    def _halves(self, doubled: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Values and gates: each group's outputs hold first the ones, then the others."""
        if self.groups == 1:
            values, gates = doubled.chunk(2, axis)
            return values, gates
        shape = (self.groups, 2, self.out_channels // self.groups)
        pairs = doubled.reshape(*doubled.shape[:axis], *shape, *doubled.shape[axis + 1 :])
        values, gates = (half.flatten(axis, axis + 1) for half in pairs.unbind(axis + 1))
        return values, gates

    def forward(self, x: Tensor) -> Tensor:
        if self.causal:
            pads = tuple((axis.span - 1, 0) for axis in self.window)
            x = apply(Pad(self.in_channels, pads, self.padding_mode), x)
        values, gates = self._halves(self.conv(x), x.dim() - 1 - self.dims)
        return self.activation(values) * torch.sigmoid(gates)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return super().extra_repr() + (", causal=True" if self.causal else "")


class GatedConv1d(Gated):
    dims = 1
    default_activation: ClassVar[str] = "linear"


class GatedConv2d(Gated):
    dims = 2


class GatedConv3d(Gated):
    dims = 3
