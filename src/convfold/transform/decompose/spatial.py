"""K x 1, then 1 x K: a kernel split between its axes."""

from __future__ import annotations

from itertools import combinations

from convfold.transform.decompose.frame import Shape
from convfold.transform.decompose.split import Split

__all__ = ["Spatial"]


class Spatial(Split):
    """``W[o, c, y, x] = sum_r H[o, r, x] V[r, c, y]``, with r channels between, in either order of the axes.

    Jaderberg, Vedaldi and Zisserman, Speeding up convolutional neural networks with low rank expansions,
    arXiv:1405.3866, scheme 2, by one singular value decomposition in place of their gradient descent. In 3-D one
    axis is split from the two others, whichever serves.
    """

    name = "spatial"

    def unsuited(self, shape: Shape) -> str:
        if len(shape.long_axes) < 2:
            many = "no axis" if not shape.long_axes else "one axis"
            return f"its kernel has {many} of more than one tap: nothing to split between"
        return ""

    def firsts(self, shape: Shape) -> list[tuple[int, ...]]:
        # Axes of one tap go with the first convolution: where they have a stride, all that follows is smaller.
        short = tuple(axis for axis in range(len(shape.kernel)) if shape.kernel[axis] == 1)
        return [
            tuple(sorted((*some, *short)))
            for count in range(1, len(shape.long_axes))
            for some in combinations(shape.long_axes, count)
        ]
