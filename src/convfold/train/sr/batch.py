"""The crops of one training step, decided by the seed and the number of the step alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convfold.errors import InvalidArgument
from convfold.train.seeds import generator
from convfold.train.sr.pictures import Picture

__all__ = ["check_sizes", "crops", "draw", "generator_of"]


def generator_of(seed: int, *names: object) -> torch.Generator:
    """A generator for what is drawn under these names, apart from that of every step."""
    return generator(seed, *"/".join(map(str, names)).encode())


def crops(picture: Tensor, size: int, count: int, step: int, drawn: torch.Generator) -> Tensor:
    """`count` squares of `size` from a picture (1, C, H, W), their corners drawn among multiples of `step`."""
    rows, columns = (
        torch.randint(0, (edge - size) // step + 1, (count,), generator=drawn) * step for edge in picture.shape[2:]
    )
    cut = [picture[..., r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)]
    return torch.cat(cut)


def check_sizes(pictures: Sequence[Picture], size: int) -> None:
    """Raise InvalidArgument where there is no picture, or one has no square of `size`; all such are named."""
    if not pictures:
        raise InvalidArgument("there are no pictures to train on", expected="at least one")
    small = [p for p in pictures if min(p.tensor.shape[-2:]) < size]
    if small:
        named = ", ".join(f"{p.name} ({p.tensor.shape[-2]}x{p.tensor.shape[-1]})" for p in small[:5])
        raise InvalidArgument(
            "pictures are smaller than a patch",
            where="patch",
            got=f"{named}{' and others' if len(small) > 5 else ''}",
            expected=f"at least {size}x{size} pixels",
            hint="Take a smaller patch or larger pictures.",
        )


def draw(pictures: Sequence[Picture], size: int, count: int, drawn: torch.Generator) -> Tensor:
    """`count` squares (count, C, size, size), each from a picture drawn equally, in one of 8 orientations."""
    chosen = torch.randint(len(pictures), (count,), generator=drawn).tolist()
    turns = torch.randint(8, (count,), generator=drawn).tolist()
    taken = []
    for index, turn in zip(chosen, turns, strict=True):
        square = crops(pictures[index].tensor[None], size, 1, 1, drawn)
        square = torch.rot90(square, turn % 4, (2, 3))
        taken.append(square.flip(3) if turn >= 4 else square)
    return torch.cat(taken)
