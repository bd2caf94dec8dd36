"""ECB: the edge-oriented convolution block of super-resolution.

Zhang, Zeng and Zhang, "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices", ACM MM 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, Identity, Op, Pad, chain_of, kernel, sum_of
from convfold.blocks.base import Block, start_conv
from convfold.errors import InvalidArgument

__all__ = ["ECB", "ECBConv2d"]

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))
MASKS = {
    "sobel_x": SOBEL,
    "sobel_y": tuple(zip(*SOBEL, strict=True)),
    "laplacian": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}


class ECB(Block):
    """``y = W_3*x + W'_3*(W_1*x) + sum_m (s_m M_m)*(W_m*x) [+ x]``, M_m Sobel's two masks and Laplace's, depthwise.

    Every layer has a bias (where `bias`); padding stands on each 1x1, so that the intermediate map is padded with its
    own response to zero and the border folds. 3x3 kernels in 2-D only: the masks are. `expansion` widens W_1
    (2 times the output channels), ``identity=True`` adds x where in_channels = out_channels and the stride is 1.
    The masks' factors and biases start normal with deviation 1e-3. No batch normalisation.
    """

    name = "ecb"

    def _build(self, *, expansion: int = 2, identity: bool = False) -> None:
        if self.kernel_size != (3, 3):
            raise InvalidArgument(
                "ecb has 3x3 masks", where=type(self).__name__, got=f"kernel_size {self.kernel_size}", expected=(3, 3)
            )
        if not isinstance(expansion, int) or expansion < 1:
            raise InvalidArgument(
                "expansion is no whole factor", where=type(self).__name__, got=repr(expansion), expected="at least 1"
            )
        self.identity = bool(identity) and self.in_channels == self.out_channels and self.stride == (1, 1)
        inputs, outputs, middle = self.in_channels, self.out_channels, expansion * self.out_channels
        window = {"stride": self.stride, "dilation": self.dilation, "bias": self._bias}
        self.dense = self._inner(inputs, outputs, self.kernel_size, **window)
        self.squeeze = self._plain(inputs, middle, (1, 1), bias=self._bias)
        self.expand = self._inner(middle, outputs, self.kernel_size, **window)
        self.points = nn.ModuleDict({n: self._plain(inputs, outputs, (1, 1), bias=self._bias) for n in MASKS})
        self.scales = nn.ParameterDict({n: 1e-3 * torch.randn(outputs, **self._placement) for n in MASKS})
        self.shifts = nn.ParameterDict(
            {n: 1e-3 * torch.randn(outputs, **self._placement) for n in MASKS} if self._bias else {}
        )
        for name, mask in MASKS.items():
            self.register_buffer(name, torch.tensor(mask, **self._placement), persistent=False)

    def op(self) -> Op:
        return sum_of(self._placed(self.dense, self.pads), *self._others())

    def _others(self) -> list[Op]:
        before, after = self._split_pads(self.expand)
        terms = [chain_of(self._placed(self.squeeze, before), self._placed(self.expand, after))]
        before, after = self._split_pads()
        window = self._window(after)
        for name, point in self.points.items():
            taps = self.scales[name].reshape(-1, 1, 1, 1) * getattr(self, name)
            shift = self.shifts[name] if self._bias else None
            edges = Conv(taps, shift, window, self.out_channels, self.padding_mode)
            terms.append(self._placed(point, before) >> edges)
        if self.identity:
            pads = self._centred((1, 1))
            crop = any(map(any, pads))
            terms.append(Pad(self.in_channels, pads, self.padding_mode) if crop else Identity(self.in_channels, 2))
        return terms

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """``W_3 = W - (the kernel of all the others)``, the bias likewise: exact in every mode."""
        self._refuse_norm(norm)
        with torch.no_grad():
            # A zero kernel brings the sum onto the block's window, so that kernels subtract tap by tap.
            zero = Conv(torch.zeros_like(weight), None, self.window, self.groups, self.padding_mode)
            others = kernel(sum_of(zero, *self._others()))
            rest = None if others.bias is None else -others.bias
            if bias is not None:
                rest = bias if rest is None else rest + bias
            start_conv(self.dense, weight - others.weight, rest)


class ECBConv2d(ECB):
    dims = 2
