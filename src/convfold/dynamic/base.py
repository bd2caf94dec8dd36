"""What every dynamic layer shares: nn.Conv's signature, experts, a router, two modes, and an exact start."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import kernel
from convfold.algebra.protocol import op as read
from convfold.blocks.arguments import ConvArguments
from convfold.blocks.registry import Registry
from convfold.dynamic.execution import FREE_BATCH, WAYS
from convfold.dynamic.experts import combined
from convfold.dynamic.folding import absorbed, simplified
from convfold.dynamic.mixture import Mixture, check_routing
from convfold.dynamic.registry import DYNAMIC
from convfold.dynamic.routing import Router
from convfold.dynamic.rule import choose, is_traced_freely
from convfold.dynamic.starting import start
from convfold.errors import InvalidArgument
from convfold.geometry import Axis

__all__ = ["DynamicLayer"]

MODES = ("kernel", "feature", "auto")


class DynamicLayer(ConvArguments):
    """A convolution whose kernel is mixed anew for each sample: ``y = conv(x, sum_k pi_k(x) W_k) + sum_k pi_k(x) b_k``.

    Arguments are those of ``nn.Conv{1,2,3}d``, then `conv`, which makes each expert an over-parameterised block (its
    name, names for nesting, or a factory); `num_experts`; and `router`, where `pi` comes from: a module from x to
    (N, K) or (N, K, out_channels), by default the method's own, to which further options go. With ``router=None``
    none is made, and the coefficients are given at each call, ``layer(x, routing=pi)``, as layers of one block that
    share a router do.

    Input (N, in_channels, *spatial) or without N, output (N, out_channels, *spatial'), as nn.Conv. Parameters: `weight`
    (K, out, in/groups, *kernel) and `bias` (K, out), or the modules `experts`; `static_bias` (out,) only where a batch
    normalisation's shift was folded in. Each expert starts as torch starts a convolution.

    Raises InvalidArgument for arguments that fit no convolution, for fewer than one expert, for an empty batch and
    for a routing of the wrong shape.
    """

    registry: ClassVar[Registry] = DYNAMIC
    has_norm: ClassVar[bool] = False
    exact_in_training: ClassVar[bool] = True
    default_experts: ClassVar[int] = 4
    num_experts: int
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    static_bias: nn.Parameter | None
    experts: nn.ModuleList | None
    router: nn.Module | None

    def _build(self, *, num_experts: int | None = None, router: nn.Module | str | None = "own", **routing: Any) -> None:
        where = type(self).__name__
        self.num_experts = self.default_experts if num_experts is None else num_experts
        if self.num_experts < 1:
            raise InvalidArgument(
                "a mixture has at least one expert", where=where, got=self.num_experts, expected="1 or more"
            )
        if isinstance(router, str) and router != "own":
            raise InvalidArgument(
                "router is unknown", where=where, got=repr(router), expected="'own', a module or None"
            )
        self._mode = "auto"
        self.register_parameter("static_bias", None)
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        self.experts = None
        if self._conv is None:
            shape = (self.num_experts, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
            self.weight = nn.Parameter(torch.empty(shape, **self._placement))
            self.bias = nn.Parameter(torch.empty(shape[:2], **self._placement)) if self._bias else None
            self._reset_experts()
        else:
            self.experts = nn.ModuleList(self._expert() for _ in range(self.num_experts))
        try:
            self.router = self._own_router(self._placement, routing) if isinstance(router, str) else router
        except TypeError as error:
            raise InvalidArgument(f"{error}", where=where, expected="options of its router") from error

    def _expert(self) -> nn.Module:
        if not self.dims:
            return self._inner(self.in_channels, self.out_channels, (), bias=self._bias)
        window = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        options = {**window, "bias": self._bias, "padding_mode": self.padding_mode}
        return self._asked(self.in_channels, self.out_channels, self.kernel_size, **options)

    def _own_router(self, placement: dict[str, Any], options: dict[str, Any]) -> Router:
        raise NotImplementedError

    def _reset_experts(self) -> None:
        assert self.weight is not None
        bound = 1 / math.sqrt(max(self.weight[0, 0].numel(), 1))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        """Why this layer would add nothing in place of `conv`: it always adds a dependence on the input."""
        return ""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DynamicLayer:
        # ``Module.to(memory_format=...)`` takes every parameter of four or five axes for a kernel, and a stack of
        # kernels has one axis more: it is moved as kernels one after the other, and stays contiguous for mixing.
        def of_kernels(t: Tensor) -> Tensor:
            if t.dim() != self.dims + 3:
                return fn(t)
            return torch.unflatten(fn(t.flatten(0, 1)), 0, t.shape[:2]).contiguous()

        return super()._apply(of_kernels, recurse)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def mode(self) -> str:
        """ "kernel": mix the kernels, run one convolution per sample; "feature": run every expert, mix their outputs.

        "auto", the default, chooses by shapes (see `convfold.dynamic.rule`), and "feature" where experts use the
        statistics of the batch. All are equal in values and gradients.
        """
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in (*MODES, *WAYS):
            raise InvalidArgument(
                "mode is unknown",
                where=type(self).__name__,
                got=repr(mode),
                expected=f"one of {MODES}, or a way of execution: {tuple(WAYS)}",
            )
        self._mode = mode

    def mixture(self) -> Mixture:
        """The experts as they are now: one stack of kernels, composed where experts are blocks."""
        if self.experts is None:
            assert self.weight is not None
            return Mixture(self.weight, self.bias, self.static_bias, self.window, self.groups, self.padding_mode)
        return combined([kernel(read(expert)) for expert in self.experts], self.static_bias)

    def routing(self, x: Tensor) -> Tensor:
        """The coefficients for the batch x: (N, K) or (N, K, out_channels)."""
        if self.router is None:
            raise InvalidArgument(
                "it has no router of its own",
                where=type(self).__name__,
                expected="layer(x, routing=coefficients)",
                hint="Give the coefficients of the router that this block shares, or build it without router=None.",
            )
        return self.router(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, routing: Tensor | None = None) -> Tensor:
        if self.dims and x.dim() == self.dims + 1:
            return self(x[None], None if routing is None else routing[None])[0]  # type: ignore[no-any-return]
        if isinstance(x.shape[0], int) and x.shape[0] == 0:
            raise InvalidArgument(
                "the batch is empty", where=type(self).__name__, got=f"shape {tuple(x.shape)}", expected="N >= 1"
            )
        routing = self.routing(x) if routing is None else routing
        if self.experts is not None and self._uses_batch_statistics():
            return self._expert_by_expert(x, routing)
        mixture = self.mixture()
        check_routing(mixture, routing, x.shape[0], type(self).__name__)
        if self.dims:
            return _in_format_of(x, WAYS[self._way(mixture, x)](mixture, x, routing))
        # Fully connected on (N, *tokens, C): one tap over the tokens of each sample.
        maps = x.reshape(x.shape[0], -1, x.shape[-1]).transpose(1, 2)
        mixture = replace(mixture, weight=mixture.weight[..., None], window=(Axis(),))
        y = WAYS[self._way(mixture, maps)](mixture, maps, routing)
        return y.transpose(1, 2).reshape(*x.shape[:-1], self.out_channels)

    def _way(self, mixture: Mixture, x: Tensor) -> str:
        way = self._mode if self._mode in WAYS else choose(mixture, x, self._mode)
        if way not in FREE_BATCH and is_traced_freely(x):
            raise InvalidArgument(
                "the number of samples is in the structure of this way of execution, so it cannot be exported",
                where=type(self).__name__,
                got=f"mode {way!r}",
                expected=f"one of {sorted({*MODES, *FREE_BATCH})}",
                hint='Set layer.mode = "auto" before the export.',
            )
        return way

    def start(
        self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None, *, noise: float = 0.1
    ) -> None:
        """Compute ``conv(x, weight) + bias`` for every input, with experts that separate as soon as they are trained.

        The router gives every expert the same coefficient c, and ``W_k = weight / (K*c) + eps_k`` with
        ``sum_k eps_k = 0``: softmax has K*c = 1, a sigmoid K*c = K/2. `noise` is the deviation of eps_k over that of
        the kernel; at zero all experts would stay equal for ever under softmax. Raises InvalidArgument for experts
        that are blocks, for a layer without a router of convfold's, and for a `norm`: it has none to put it into.
        """
        if norm is not None:
            raise InvalidArgument(f"{self.name} has no normalisation of its own", got="a norm to start from")
        start(self, weight, bias, noise)

    def simplified(self) -> nn.Module:
        """An equal module that runs less: block experts folded, and a static convolution where routing is constant.

        Returns the layer itself where there is nothing to do. Raises NotFoldable as `convfold.fold` does.
        """
        return simplified(self)

    def absorbed(self, norm: nn.Module) -> nn.Module:
        """This layer, simplified, with the batch normalisation after it folded in: ``s * y + t``.

        Every expert's kernel and bias take s. The shift t goes into each expert's bias where coefficients add to one
        (softmax), else into `static_bias`. Raises NotFoldable for a normalisation in training mode.
        """
        return absorbed(self, norm)

    def fold(self) -> nn.Module:
        """The same as `simplified`: what a block's `fold` is to a block."""
        return simplified(self)

    def _uses_batch_statistics(self) -> bool:
        return self.training and any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in self.modules()
        )

    def _expert_by_expert(self, x: Tensor, routing: Tensor) -> Tensor:
        """Feature fusion with experts that need their own batch statistics: each runs on its own."""
        assert self.experts is not None
        if self._mode not in ("auto", "feature"):
            raise InvalidArgument(
                "experts with batch normalisations in training have no kernels: they use the batch's statistics",
                where=type(self).__name__,
                got=f"mode {self._mode!r}",
                expected="'auto' or 'feature'",
                hint='Build the experts with norm="scale" to train in weight space.',
            )
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)  # (N, K, C_out, *size)
        routing = routing.to(outputs.dtype)
        weights = routing if routing.dim() == 3 else routing[:, :, None]
        y = (outputs * weights.reshape(*weights.shape, *(1,) * self.dims)).sum(1)
        if self.static_bias is not None:
            y = y + self.static_bias.reshape(-1, *(1,) * self.dims)
        return y

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_experts={self.num_experts}, mode={self.mode!r}"


def _in_format_of(x: Tensor, y: Tensor) -> Tensor:
    """y in the memory format of x, channels last where x is, as torch's convolutions answer."""
    # Asked of the permuted tensor: functorch's tensors know no memory format.
    if x.dim() not in (4, 5) or x.is_contiguous() or not x.movedim(1, -1).is_contiguous():
        return y
    return y.movedim(1, -1).contiguous().movedim(-1, 1)
