"""A bias that falls off at the border: what zero-padded convolutions answer to a constant before them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

__all__ = ["BorderBias", "Bordered"]

Size = tuple[int, ...]


class BorderBias(nn.Module):
    """``y + response(y's positions)``: a map over positions, at the planned size and at any other.

    `response(size)` gives (C, *size), or None for a size that cannot be; along each axis the first `borders[0]` and
    the last `borders[1]` positions see a border, those in between are alike. Buffers: `planned`, the map at the
    planned size, and `table`, the maps of all sizes up to the first that shows either border and what lies
    between, of which larger ones are put together. Without `borders` (a stride decides by the size before what the
    last position sees) only the planned sizes are accepted: of the result, and of what it is computed from.
    """

    planned: Tensor
    table: Tensor

    def __init__(
        self,
        planned: Size,
        response: Callable[[Size], Tensor | None],
        borders: tuple[tuple[int, int], ...] | None,
        source: Size = (),
    ) -> None:
        super().__init__()
        self.borders, self.source = borders, tuple(source)
        whole = response(planned)
        assert whole is not None
        self.register_buffer("planned", whole.clone())
        if borders is not None:
            self.register_buffer("table", _table(borders, response, whole))

    def forward(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        """`x` is what `y` was computed from, needed without `borders`. Raises RuntimeError for unplanned sizes."""
        size = y.shape[-(self.planned.dim() - 1) :]
        same = size == self.planned.shape[1:]
        if self.borders is None:
            before = self.source if x is None else x.shape[-len(self.source) :]
            if not same or before != self.source:
                raise RuntimeError(
                    f"a bias that differs at the border was folded for maps of {self.source}, got {tuple(before)}: "
                    "fold the model with example inputs of the size that it is to run on"
                )
        if same:
            return y + self.planned
        bias = self.table
        for axis, (count, (left, right)) in enumerate(zip(size, self.borders, strict=True)):
            bias = bias.index_select(1 + axis, _rows(count, left, right, y.device))
        return y + bias

    def extra_repr(self) -> str:
        return f"{self.planned.shape[0]}, planned for {tuple(self.planned.shape[1:])}"


def _table(borders: tuple[tuple[int, int], ...], response: Callable[[Size], Tensor | None], like: Tensor) -> Tensor:
    """(C, *rows): along each axis the positions of size 1, then those of size 2, up to left + right + 1."""
    counts = [left + right + 1 for left, right in borders]
    table = like.new_zeros(like.shape[0], *(n * (n + 1) // 2 for n in counts))
    for size in product(*(range(1, n + 1) for n in counts)):
        found = response(size)
        if found is not None:
            table[(slice(None), *(slice(n * (n - 1) // 2, n * (n + 1) // 2) for n in size))] = found
    return table


def _rows(count: int, left: int, right: int, device: torch.device) -> Tensor:
    """The rows of the table that the positions of an axis of `count` look like."""
    full = left + right + 1
    known = min(count, full)
    position = torch.arange(count, device=device)
    # From the right border on, positions are counted from the end; in between all are like the first of them.
    like = torch.where(position < count - right, position.clamp(max=left), position - (count - known))
    near = position if count <= full else like
    return near + known * (known - 1) // 2


class Bordered(nn.Sequential):
    """Modules in sequence, the last a BorderBias that looks at the sizes of what the first was given, too."""

    def forward(self, x: Tensor) -> Tensor:
        *body, border = self
        y = x
        for module in body:
            y = module(y)
        return border(y, x)  # type: ignore[no-any-return]
