"""QARepVGG: RepVGG without batch normalisation on the 1x1 and the identity, and one after the sum.

Chu, Li and Zhang, "Make RepVGG Greater Again: A Quantization-aware Approach", AAAI 2024, arXiv 2212.01593.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, AvgPool, Identity, Op, Pad, chain_of, sum_of
from convfold.blocks.base import start_conv
from convfold.blocks.branched import Branched, absorbed, fill

__all__ = ["QARepVGG", "QARepVGGConv1d", "QARepVGGConv2d", "QARepVGGConv3d"]


class QARepVGG(Branched):
    """``y = BN( BN3(W_k * x) + alpha*(W_1 * x) + x )``; with ``pool=True`` also ``+ avg_k(x)`` (YOLOv6's V2).

    alpha is learned, 1 at the start. The identity and the pooling branch are there when in_channels =
    out_channels and the stride is 1.
    """

    name = "qarepvgg"
    exact_in_training = False

    def _build(self, *, norm: str = "bn", pool: bool = False) -> None:
        self.pool = bool(pool)
        super()._build(norm=norm)

    def _build_branches(self) -> None:
        self._build_dense()
        self.point = self._plain(self.in_channels, self.out_channels, (1,) * self.dims, stride=self.stride)
        self.alpha = nn.Parameter(torch.ones((), **self._placement))
        self.post_norm = self._norm(self.out_channels)

    def branches(self) -> Iterator[Op]:
        yield self._dense_branch()
        pads = self._centred((1,) * self.dims)
        yield self._placed(self.point, pads) >> Affine(self.alpha.expand(self.out_channels), None, self.dims)
        if self._has_identity():
            crop = any(map(any, pads))
            yield Pad(self.in_channels, pads, self.padding_mode) if crop else Identity(self.in_channels, self.dims)
            if self.pool:
                yield AvgPool(self.in_channels, self.window, self.padding_mode)

    def other_norms(self) -> Iterator[nn.Module]:
        return iter(())

    def op(self) -> Op:
        shift = None if self.bias is None else Affine(None, self.bias, self.dims)
        return chain_of(sum_of(*self.branches()), self._after(self.post_norm), shift)

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """``W_k = W - (the identity's and the pooling's kernel)``, alpha = 0, the inner statistics the identity's.

        Exact in eval mode only: in training the inner batch normalisation uses the batch.
        """
        with torch.no_grad():
            start_conv(self.dense, weight - self._fixed(weight))
            self.alpha.zero_()
            if norm is None:
                fill(self.post_norm, 1.0)
            else:
                self.post_norm, bias = absorbed(norm, bias), None
                self._follow(norm)
            fill(self.dense_norm, 1.0)  # after it has the epsilon that it keeps
            self._start_bias(bias)

    def _fixed(self, like: Tensor) -> Tensor:
        """The kernel of the identity and the pooling on the window of the block."""
        kernel = torch.zeros_like(like)
        if self._has_identity():
            width = like.shape[1]
            rows = torch.arange(like.shape[0], device=like.device)
            centre = tuple((k - 1) // 2 for k in self.kernel_size)
            kernel[(rows, rows % width, *centre)] += 1
            if self.pool:
                taps = like[0, 0].numel()
                kernel[rows, rows % width] += 1 / taps
        return kernel


class QARepVGGConv1d(QARepVGG):
    dims = 1


class QARepVGGConv2d(QARepVGG):
    dims = 2


class QARepVGGConv3d(QARepVGG):
    dims = 3
