"""Fewer channels between: a kernel split from a pointwise convolution after it, or before it."""

from __future__ import annotations

from convfold.transform.decompose.frame import Shape
from convfold.transform.decompose.split import Split

__all__ = ["SVD"]


class SVD(Split):
    """``W[o, c, x] = sum_r B[o, r] A[r, c, x]`` (k x k to r channels, then 1x1), or the 1x1 first, if cheaper.

    Denton et al., Exploiting linear structure within convolutional networks, arXiv:1404.0736; Zhang et al.,
    Accelerating very deep convolutional networks, arXiv:1505.06798. A Linear layer becomes two.
    """

    name = "svd"

    def unsuited(self, shape: Shape) -> str:
        if shape.rows == 1 and shape.columns == 1:
            return "it is depthwise: there is one channel between already"
        return ""

    def firsts(self, shape: Shape) -> list[tuple[int, ...]]:
        axes = tuple(range(len(shape.kernel)))
        return [axes, ()] if shape.long_axes else [axes]
