"""Batch statistics: against torch's own formulas, alone and over two processes."""

import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from convfold.algebra.readings.statistics import batch_statistics


def data() -> Tensor:
    return torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2


def loss(mean: Tensor, variance: Tensor) -> Tensor:
    weights = torch.arange(1.0, 4.0, dtype=torch.float64)
    return (weights * mean + weights.flip(0) * variance).sum()


def truth() -> tuple[Tensor, Tensor, Tensor]:
    x = data().requires_grad_()
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    loss(mean, variance).backward()
    assert x.grad is not None
    return mean.detach(), variance.detach(), x.grad


def test_statistics_and_their_gradient_alone() -> None:
    mean, variance, gradient = truth()
    x = data().requires_grad_()
    got = batch_statistics(nn.BatchNorm2d(3), x)
    loss(*got).backward()
    torch.testing.assert_close(got, (mean, variance), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(x.grad, gradient, rtol=1e-12, atol=1e-13)


def half(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mean, variance, gradient = truth()
    # Unequal shares: a mean of means would be wrong.
    mine = slice(0, 2) if rank == 0 else slice(2, 6)
    x = data()[mine].requires_grad_()
    got = batch_statistics(nn.SyncBatchNorm(3), x)
    torch.testing.assert_close(got, (mean, variance), rtol=1e-13, atol=1e-13)
    # Each process has its share of the loss, so that the sum over processes is the whole one.
    (loss(*got) / 2).backward()
    torch.testing.assert_close(x.grad, gradient[mine], rtol=1e-12, atol=1e-13)
    dist.destroy_process_group()


def test_statistics_of_a_synchronised_norm_are_those_of_all_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(half, args=(port,), nprocs=2)
