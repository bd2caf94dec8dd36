"""Which way of execution a layer takes when it is left to choose: decided from shapes, on measured costs.

Nothing is measured while a model runs: the same shapes always take the same way, in training one of its own.
Constants are those of an x86 core with AVX-512 and 1 MiB of second-level cache, one thread, oneDNN;
`convfold bench dynamic` measures what the choice is worth on the machine at hand.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from convfold.dynamic.mixture import Mixture
from convfold.geometry import out_size

__all__ = ["choose", "is_traced_freely", "kernel_bytes", "samples_at_once"]

# Kernels that are mixed at once. Mixing reads all experts once per chunk, so one sample at a time is dear; kernels
# that have left the cache when the convolution reads them are dearer. Over static, 128 channels, 14x14 (0.56 MiB of
# kernel each), by samples in a chunk: forward of batch 32, K = 4: 1: 1.74, 2: 1.60, 4: 1.57, 8: 1.59, 16: 1.67,
# 32: 1.72; K = 8: 2: 1.81, 4: 1.70, 8: 1.69; forward and backward of batch 8, K = 8: 2: 2.12, 4: 1.85, 8: 1.65.
KERNEL_BYTES = 5 << 20

# Feature fusion: where it begins to win, positions of the output by batch size, K = 4 and K = 8 (3x3, 128 channels):
# batch 8: 25 and 9; batch 32: 33 and 17; batch 128: 36 and 20; at 32 channels 10 and 4, 24 and 10, 44 and 21; at
# batch 1 nowhere. A weight that is mixed, laid out for the convolution and fetched costs as much as MIXING products
# of a convolution; one of an expert that is only laid out and fetched, once per batch, FETCHING.
MIXING = 100
FETCHING = 70
# A batched product takes kernels as they lie. 1x1, 128 channels: at batch 32 it loses below 10 positions (K = 4), at
# batch 8 below 2; with 32 channels, whose kernels are small, nowhere.
MIXING_POINTWISE = 40
CACHED_BYTES = 1 << 20
NARROW = 16

# Depthwise, the maps are what leaves the cache. Forward and backward sample by sample over all at once (3x3, K = 4), by
# the bytes of one sample's map and the batch: 0.4 MB: 32: 1.22; 0.8 MB: 32: 1.06, 64: 0.88; 1.6 MB: 8: 0.86, 16: 0.88,
# 32: 0.85; 3.2 MB: 8: 0.85 to 0.88, 32: 0.85. Forward alone all at once is faster everywhere.
SAMPLE_BYTES = 1 << 20


def kernel_bytes(mixture: Mixture) -> int:
    """Bytes of one kernel. From the stack's own sizes: taking one expert out of it is an operator."""
    return mixture.weight.nbytes // mixture.experts


def samples_at_once(mixture: Mixture, samples: int) -> int:
    """How many samples to run as one grouped convolution: kernels of KERNEL_BYTES, in chunks of nearly equal size."""
    most = max(1, KERNEL_BYTES // max(kernel_bytes(mixture), 1))
    if samples <= most:
        return samples
    chunks = -(-samples // most)
    return -(-samples // chunks)


def is_traced_freely(x: Tensor) -> bool:
    """Whether the number of samples is open: the model is being exported, or its sizes are symbols."""
    return not isinstance(x.shape[0], int) or torch.compiler.is_exporting()


def choose(mixture: Mixture, x: Tensor, mode: str) -> str:
    """The way for this mixture on this input: `mode` is "kernel", "feature" or "auto"."""
    if mode == "feature":
        return "feature"
    if is_traced_freely(x):
        return "product" if mixture.is_pointwise else "patches"
    if mode == "auto" and _prefers_features(mixture, x):
        return "feature"
    if mixture.is_pointwise:
        return "product"
    return "loop" if mode == "auto" and _trains_by_sample(mixture, x) else "grouped"


def _prefers_features(mixture: Mixture, x: Tensor) -> bool:
    """Whether running all K experts takes less than mixing and fetching a kernel for each of N samples.

    In multiply-accumulates of a convolution, per weight: ``N*(K - 1)*positions + K*FETCHING < N*MIXING``.
    """
    samples, experts = x.shape[0], mixture.experts
    # Kernels that stay in the cache cost next to nothing, and grouped convolutions that are narrow are no cheaper
    # with the experts side by side: depthwise, feature fusion takes 3 to 25 times as long at every size.
    if samples * kernel_bytes(mixture) <= CACHED_BYTES or mixture.weight.shape[2] < NARROW:
        return False
    positions = prod(out_size(mixture.window, tuple(x.shape[2:])))
    mixing = MIXING_POINTWISE if mixture.is_pointwise else MIXING
    return samples * (experts - 1) * positions + experts * FETCHING < samples * mixing


def _trains_by_sample(mixture: Mixture, x: Tensor) -> bool:
    """Whether a step of training is a depthwise convolution of large maps. Compiled, its graph would grow with N."""
    depthwise = mixture.weight.shape[2] == 1 and mixture.groups > 1
    trains = torch.is_grad_enabled() and mixture.weight.requires_grad and not torch.compiler.is_compiling()
    return depthwise and trains and x.nbytes >= SAMPLE_BYTES * x.shape[0]
