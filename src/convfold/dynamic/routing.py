"""The three ways to predict the coefficients of a mixture from its input: all that the three papers differ in.

A router maps (N, C, *spatial), or (N, *tokens, C) for fully connected layers, to coefficients (N, K) or
(N, K, C_out). Each starts from global average pooling, in at least single precision.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument

__all__ = ["AttentionRouter", "ChannelRouter", "Router", "SigmoidRouter", "UniformRouter", "pooled"]


def pooled(x: Tensor, dims: int) -> Tensor:
    """Global average pooling: (N, C, *spatial) -> (N, C); with dims = 0 the mean over all axes between."""
    if dims:
        return x.flatten(2).mean(2)
    return x if x.dim() == 2 else x.flatten(1, -2).mean(1)


class Router(nn.Module):
    """What predicts coefficients. `sums_to_one`: whether the coefficients of a sample always add to one.

    `neutral` is the coefficient of every expert when the last layer is zero: the same for all inputs.
    """

    sums_to_one: ClassVar[bool] = False
    last: nn.Linear

    def __init__(self, in_channels: int, num_experts: int, dims: int) -> None:
        super().__init__()
        if num_experts < 1:
            raise InvalidArgument(
                "a mixture has at least one expert", where="num_experts", got=num_experts, expected="1 or more"
            )
        self.in_channels, self.num_experts, self.dims = in_channels, num_experts, dims

    def forward(self, x: Tensor) -> Tensor:
        return self.coefficients(self.logits(pooled(x, self.dims)))

    def logits(self, summary: Tensor) -> Tensor:
        """From the pooled input (N, C) to the last layer's output."""
        return self.last(summary)  # type: ignore[no-any-return]

    def coefficients(self, logits: Tensor) -> Tensor:
        """From the last layer's output to coefficients."""
        raise NotImplementedError

    @property
    def neutral(self) -> float:
        raise NotImplementedError

    def reset(self) -> None:
        """Make the coefficients those of no preference, whatever the input; the last layer still learns from there."""
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def constant(self) -> Tensor | None:
        """The coefficients (K,) or (K, C_out) where they provably do not depend on the input, else None.

        Provably: the last layer's weight is zero, so that only its bias speaks.
        """
        if bool(self.last.weight.detach().any()):
            return None
        with torch.no_grad():
            bias = self.last.bias
            logits = self.last.weight.new_zeros(self.last.out_features) if bias is None else bias
            return self.coefficients(logits[None])[0]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, num_experts={self.num_experts}"


class SigmoidRouter(Router):
    """CondConv: ``pi = sigmoid(R * GAP(x))``, one coefficient per expert, not normalised.

    Yang et al., "CondConv", NeurIPS 2019, arXiv 1904.04971.
    """

    def __init__(self, in_channels: int, num_experts: int = 4, dims: int = 2, **placement: Any) -> None:
        super().__init__(in_channels, num_experts, dims)
        self.last = nn.Linear(in_channels, num_experts, **placement)

    def coefficients(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    @property
    def neutral(self) -> float:
        return 0.5


class AttentionRouter(Router):
    """DynamicConv: ``pi = softmax(W2 * relu(W1 * GAP(x)) / tau)``, one coefficient per expert; they add to one.

    The squeeze to ``max(C // reduction, K)`` channels has no bias, the way back has one. `temperature` (tau) is a
    buffer, saved with the model: 30 at the start and 1 in the end, see `TemperatureSchedule`. A new layer has 1, so
    that a model without a schedule is the published network after annealing; the schedule sets 30.

    Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", CVPR 2020, arXiv 1912.03458.
    """

    sums_to_one = True
    temperature: Tensor

    def __init__(
        self,
        in_channels: int,
        num_experts: int = 4,
        dims: int = 2,
        *,
        reduction: int = 4,
        temperature: float = 1.0,
        **placement: Any,
    ) -> None:
        super().__init__(in_channels, num_experts, dims)
        if reduction < 1:
            raise InvalidArgument("the squeeze divides the channels", where="reduction", got=reduction, expected=">= 1")
        if not temperature > 0:
            raise InvalidArgument(
                "a temperature divides, so it is positive", where="temperature", got=temperature, expected="above 0"
            )
        self.squeeze = nn.Linear(in_channels, max(in_channels // reduction, num_experts), bias=False, **placement)
        self.last = nn.Linear(self.squeeze.out_features, num_experts, **placement)
        # A buffer, not an attribute: a model that is saved half-way through its annealing comes back so.
        device = placement.get("device")
        self.register_buffer("temperature", torch.tensor(float(temperature), device=device))

    def logits(self, summary: Tensor) -> Tensor:
        return self.last(torch.relu(self.squeeze(summary)))  # type: ignore[no-any-return]

    def coefficients(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits / self.temperature.to(logits.dtype), -1)

    @property
    def neutral(self) -> float:
        return 1.0 / self.num_experts


class ChannelRouter(Router):
    """DyNet: ``pi = sigmoid(R * GAP(x))``, one coefficient per expert *and output channel*: (N, K, C_out).

    The paper gives the coefficients no formula beyond a fully connected layer after global average pooling; the
    sigmoid, which keeps each in (0, 1) as CondConv's, is convfold's choice.

    Zhang et al., "DyNet: Dynamic Convolution for Accelerating Convolutional Neural Networks", 2020, arXiv 2004.10694.
    """

    def __init__(
        self, in_channels: int, num_experts: int = 6, dims: int = 2, *, out_channels: int, **placement: Any
    ) -> None:
        super().__init__(in_channels, num_experts, dims)
        self.out_channels = out_channels
        self.last = nn.Linear(in_channels, num_experts * out_channels, **placement)

    def coefficients(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits).unflatten(-1, (self.num_experts, self.out_channels))

    @property
    def neutral(self) -> float:
        return 0.5

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, out_channels={self.out_channels}"


class UniformRouter(Router):
    """A control, not a method: ``pi = 1/K`` for every input. K kernels are trained, one convolution is computed."""

    sums_to_one = True

    def __init__(self, in_channels: int, num_experts: int = 4, dims: int = 2, **placement: Any) -> None:
        super().__init__(in_channels, num_experts, dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((x.shape[0], self.num_experts), self.neutral)

    @property
    def neutral(self) -> float:
        return 1.0 / self.num_experts

    def reset(self) -> None:
        """Nothing to reset: it never has a preference."""

    def constant(self) -> Tensor | None:
        return torch.full((self.num_experts,), self.neutral, dtype=torch.float64)
