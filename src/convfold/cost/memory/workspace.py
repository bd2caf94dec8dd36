"""What torch's CPU convolutions take from the allocator for themselves, beyond their output, while they run.

Derived from how torch 2 runs a convolution on float tensors (``use_mkldnn`` in ATen/native/Convolution.cpp):

* through oneDNN when it is grouped, batched, has a kernel above 3 or an input above 20,480 elements, unless it
  is a plain 1 x 1 of fewer than 16 samples on one thread. On contiguous tensors the input, the weight and the
  output are rewritten in blocks of B channels (16 with AVX-512, 8 with AVX2), C' = C rounded up to B:

      max(in(C_in') + weight + out(C_out'), out(C_out') + out) - out

  and alike, with the roles exchanged, for each of the two gradients, one after the other.
  An input of fewer than B channels is read as it is. A strided 1 x 1 also gathers the input it reads, a
  transposed convolution adds its bias to a copy. On channels_last tensors only the weight is rewritten.
* else through an im2col matrix ``N * C_in/g * prod(kernel) * prod(out)`` (a 1 x 1 needs none; N is 1 with dilation).

Scratch of a few cache lines per channel is left out, and so are kernels that oneDNN has no blocks for (groups
whose channels B does not divide).
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from convfold.cost.counting.leaves import tensors
from convfold.graph.operators import operator_name

__all__ = ["cpu_workspace"]

_SMALL = 20480  # elements of an input that torch does not hand to oneDNN


def cpu_workspace(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Bytes that one call holds while it runs, above its operands and its results: 0 for all but convolutions."""
    name = operator_name(func)
    if name in ("convolution", "_convolution"):
        return _forward(out, *args)
    if name == "convolution_backward":
        return _backward(out, *args)
    return 0


def _plain(weight: Tensor, stride: Any, dilation: Any) -> bool:
    return {*weight.shape[2:], *stride, *dilation} == {1}


def _columns(x: Tensor, weight: Tensor, padding: Any, dilation: Any, out: Tensor, groups: int, *, plain: bool) -> int:
    samples = 1 if max(dilation) > 1 else x.shape[0]  # with dilation one after the other
    taps = int(x.shape[1]) // groups * prod(weight.shape[2:])
    return 0 if plain and not any(padding) else int(taps * prod(out.shape[2:]) * samples * x.element_size())


def _forward(
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    _: Any,
    groups: int,
    *rest: Any,
) -> int:
    plain = _plain(weight, stride, dilation)
    if not _through_onednn(x, weight, groups, plain=plain):
        # A transposed convolution multiplies first and scatters its columns: they lie over its input.
        small, large = (out, x) if transposed else (x, out)
        return _columns(small, weight, padding, dilation, large, groups, plain=plain)
    if transposed:
        return out.nbytes * (2 if bias is not None else 1)
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return int(weight.nbytes)
    blocks = _blocks(x, weight, out, groups)
    if blocks is None:
        return 0
    source, kernel, result = blocks
    if set(weight.shape[2:]) == {1} and max(stride) > 1:
        source += torch.get_num_threads() * int(x.shape[1]) * prod(out.shape[2:]) * out.element_size()
    return max(source + kernel + result, result + out.nbytes) - out.nbytes


def _backward(
    out: Any,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    _sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    _: Any,
    groups: int,
    mask: Any,
) -> int:
    plain = _plain(weight, stride, dilation)
    if transposed or not x.is_contiguous():
        return 0
    copied = 0 if grad.is_contiguous() else grad.numel() * grad.element_size()
    if not _through_onednn(x, weight, groups, plain=plain):
        needed = mask[0] or mask[1]
        return copied + (_columns(x, weight, padding, dilation, grad, groups, plain=plain) if needed else 0)
    blocks = _blocks(x, weight, grad, groups)
    if blocks is None:
        return 0
    source, kernel, result = blocks
    made = sum(tensor.nbytes for tensor in tensors(out))
    kept = x.nbytes if mask[0] else 0
    phases = [0]
    if mask[0]:
        # That of a strided 1 x 1 comes with its channels last and is put in order once more.
        copies = 2 if set(weight.shape[2:]) == {1} and max(stride) > 1 else 1
        phases += [result + kernel + source, source + copies * kept]
    if mask[1]:
        # Depthwise kernels above 4 read the maps as they are.
        maps = 0 if groups == x.shape[1] and max(weight.shape[2:]) > 4 else source + result
        phases += [kept + maps + kernel, kept + kernel + weight.nbytes]
    return copied + max(0, max(phases) - made)


def _through_onednn(x: Tensor, weight: Tensor, groups: int, *, plain: bool) -> bool:
    present = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    if not present or x.dtype != torch.float32:
        return False
    worth = not plain or x.shape[0] >= 16 or torch.get_num_threads() > 1
    wide = min(weight.shape[2:]) > 3 or groups > 1 or x.shape[0] > 1
    return worth and (wide or prod(x.shape[:4]) > _SMALL)


def _blocks(x: Tensor, weight: Tensor, out: Tensor, groups: int) -> tuple[int, int, int] | None:
    """Bytes of the input, the weight and the output in blocks; None where oneDNN has no blocks for them."""
    block = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8
    inner, outer = int(x.shape[1]), int(out.shape[1])
    depthwise = groups == inner == outer
    if groups > 1 and not depthwise and (inner // groups % block or outer // groups % block):
        return None
    first = groups == 1 and inner < block
    wide_in, wide_out = (-(-c // block) * block for c in (inner, outer))
    columns = 1 if depthwise else inner if first else wide_in // groups
    kernel = wide_out * columns * prod(weight.shape[2:]) * weight.element_size()
    return 0 if first else x.nbytes // inner * wide_in, int(kernel), out.nbytes // outer * wide_out
