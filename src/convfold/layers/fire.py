"""SqueezeNet's Fire module: squeeze by a 1x1, expand by a 1x1 and a k x k.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, arXiv 1602.07360.
"""

from __future__ import annotations

from torch import Tensor, nn

from convfold.blocks.registry import BLOCKS
from convfold.errors import InvalidArgument
from convfold.layers.base import Layer, check_count

__all__ = ["Fire", "Fire1d", "Fire2d", "Fire3d"]


class Fire(Layer):
    """``z = relu(S * x + a)``, ``y = relu([W_1 * z + b_1; W_k * z + b_k])``: squeeze to M channels, then expand twice.

    M = `squeeze` (default C_out/8, the paper's ratio); the first `pointwise` outputs (default half) come from the 1x1.
    Stride, padding and dilation stand on the expansions, whose ReLU is taken after they are joined. `expand` is the
    block "fire": linear, so it folds on request to one k x k convolution. groups = 1 only, as there.

    Cost per sample, T taps, P_0 input and P output positions, e_1 + e_k = C_out: MACs
    ``P_0*C_in*M + P*M*(e_1 + T*e_k)``; parameters ``M*(C_in + e_1 + T*e_k)``, M + C_out more with a bias. All
    kernels start from He's uniform distribution, as the authors' do, with biases of zero.
    """

    name = "fire"

    def _build(self, *, squeeze: int | None = None, pointwise: int | None = None) -> None:
        if self.groups != 1:
            raise InvalidArgument("fire has no groups", where=type(self).__name__, got=self.groups, expected=1)
        width = max(self.out_channels // 8, 1) if squeeze is None else check_count(squeeze, "squeeze", self)
        self.squeeze = self._plain(self.in_channels, width, self._one, bias=self._bias)
        self.expand = BLOCKS.find("fire", self.dims)(
            width,
            self.out_channels,
            self.kernel_size,
            padding=self.padding,
            bias=self._bias,
            padding_mode=self.padding_mode,
            conv=self._conv,
            pointwise=pointwise,
            **self._at_window(),
            **self._placement,
        )
        for module in (self.squeeze, self.expand.point, self.expand.dense):
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.expand(self.squeeze(x).relu()).relu()  # type: ignore[no-any-return]


class Fire1d(Fire):
    dims = 1


class Fire2d(Fire):
    dims = 2


class Fire3d(Fire):
    dims = 3
