"""Random numbers that depend on where they are used, and on nothing that happened before."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["epoch_order", "generator", "mix"]


def mix(*numbers: int) -> int:
    """A seed of 63 bits for these numbers, in this order.

    Every random decision of a training takes its seed from (seed, epoch, ...) through it, so that an epoch can be
    repeated without the states that generators had at its start.
    """
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator of its own for these numbers."""
    return torch.Generator().manual_seed(mix(*numbers))


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of `count` images in one epoch, the same in every process."""
    return torch.randperm(count, generator=generator(seed, epoch))
