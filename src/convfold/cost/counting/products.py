"""Multiply-accumulates of one executed operator: torch's own formulas, and those that torch lacks.

The base is the registry of ``torch.utils.flop_counter.FlopCounterMode``, two FLOPs to a multiply-accumulate.
It has nothing for the following, whose formulas are added here:

* vectors: ``mv dot vdot addmv addr addbmm``, and ``_addmm_activation _int_mm _weight_int8pack_mm _grouped_mm``,
  and ``linear``, which nested tensors run whole;
* attention in one kernel: ``_scaled_dot_product_flash_attention_for_cpu`` (what a CPU runs), the overrideable
  one, ``_native_multi_head_attention`` and ``_transformer_encoder_layer_fwd`` (the fast path of torch.nn);
  always counted as if not causal;
* recurrent layers in one kernel: ``mkldnn_rnn_layer`` (LSTM on CPU), ``_cudnn_rnn``, ``miopen_rnn``;
* ``_trilinear`` (Bilinear): ``y_o = sum_ij W_oij x_i z_j`` is a matrix product with the outer product of x
  and z, ``N * O * I * J``; the outer product itself is elementwise work;
* convolutions by other names (``conv_tbc``, ``mkldnn_convolution``, ``slow_*``), ``torchvision::deform_conv2d``,
  products with sparse matrices (one for each entry that is stored) and quantised layers.

Of what torch does count, two are replaced: ``convolution_backward``, where torch's ignores the groups in the
gradient of the weight, and ``_slow_conv2d_forward``, whose arguments torch's takes for others. Zero padding is
counted: a convolution costs ``N * out * C_out * C_in/g * taps``, a transposed one
``N * in * C_in * C_out/g * taps``, whatever of it falls outside. One complex product counts as one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["CONVOLUTIONS", "PRODUCTS", "Formula", "formula", "lengths"]

aten: Any = torch.ops.aten

# (arguments, keyword arguments, result) -> multiply-accumulates
Formula = Callable[[Any, Any, Any], int]

# Operators of other libraries are known by name: the library need not be there.
CONVOLUTIONS = frozenset(
    {
        "aten::convolution",
        "aten::_convolution",
        "aten::cudnn_convolution",
        "aten::convolution_overrideable",
        "aten::_slow_conv2d_forward",
        "aten::mkldnn_convolution",
        "aten::slow_conv3d_forward",
        "aten::slow_conv_dilated2d",
        "aten::slow_conv_dilated3d",
        "aten::slow_conv_transpose2d",
        "aten::slow_conv_transpose3d",
        "aten::_conv_depthwise2d",
        "aten::conv_depthwise3d",
        "aten::conv_tbc",
        "torchvision::deform_conv2d",
        *(
            f"quantized::conv{dims}{fused}"
            for dims in ("1d", "2d", "3d")
            for fused in ("", "_relu", "_add", "_add_relu")
        ),
        *(f"quantized::conv_transpose{dims}" for dims in ("1d", "2d", "3d")),
    }
)

# Each product with the positions of its two factors.
PRODUCTS: dict[str, tuple[int, int]] = {
    "aten::mm": (0, 1),
    "aten::bmm": (0, 1),
    "aten::mv": (0, 1),
    "aten::dot": (0, 1),
    "aten::vdot": (0, 1),
    "aten::addmm": (1, 2),
    "aten::baddbmm": (1, 2),
    "aten::addbmm": (1, 2),
    "aten::addmv": (1, 2),
    "aten::_addmm_activation": (1, 2),
    "aten::_scaled_mm": (0, 1),
    "aten::_int_mm": (0, 1),
}


def _product(factors: tuple[int, int]) -> Formula:
    def count(args: Any, kwargs: Any, out: Any) -> int:
        left, right = args[factors[0]].shape, args[factors[1]].shape
        # left is (..., rows, inner) or (..., inner): every element meets each column of the right.
        columns = right[-1] if len(right) >= 2 else 1
        return int(prod(left) * columns)

    return count


def _outer(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[1].numel() * args[2].numel())


def _grouped(args: Any, kwargs: Any, out: Any) -> int:
    # Offsets say which rows meet which matrix of the right; each row meets exactly one.
    return int(args[0].numel() * args[1].shape[-1])


def _of_output(args: Any, kwargs: Any, out: Any) -> int:
    return int(out.numel() * prod(args[1].shape[1:]))


def _of_input(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[0].numel() * prod(args[1].shape[1:]))


def _time_batch_channel(args: Any, kwargs: Any, out: Any) -> int:
    taps, in_channels, _ = args[1].shape
    return int(out.numel() * taps * in_channels)


def _linear(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[0].numel() * args[1].shape[0])


def _sparse(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[1]._nnz() * args[2].shape[-1])


def _convolution_backward(args: Any, kwargs: Any, out: Any) -> int:
    gradient, x, weight, _, _, _, _, transposed, _, _, wanted = args
    # The forward's products, once for the gradient of the input and once for that of the weight.
    positions = x if transposed else gradient
    return int(positions.numel() * prod(weight.shape[1:]) * (wanted[0] + wanted[1]))


def _attention(args: Any, kwargs: Any, out: Any) -> int:
    query, key, value = args[:3]
    return int(sdpa_flop_count(query.shape, key.shape, value.shape)) // 2


def _attention_backward(args: Any, kwargs: Any, out: Any) -> int:
    gradient, query, key, value = args[:4]
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape)) // 2


def _self_attention(steps: list[int], width: int) -> int:
    # Three projections and the one of the output; then scores and their use, over all heads together.
    return sum(4 * length * width * width + 2 * length * length * width for length in steps)


def lengths(sequence: Any) -> list[int]:
    """How long each sequence of a batch is."""
    if sequence.is_nested:
        return [int(size[0]) for size in sequence._nested_tensor_size()]
    return [int(sequence.shape[1])] * int(sequence.shape[0])


def _multi_head(args: Any, kwargs: Any, out: Any) -> int:
    query, key, _, width = args[:4]
    pairs = zip(lengths(query), lengths(key), strict=True)
    # Query and output projections; key and value projections; scores and their use.
    return sum(2 * q * width**2 + 2 * k * width**2 + 2 * q * k * width for q, k in pairs)


def _encoder_layer(args: Any, kwargs: Any, out: Any) -> int:
    steps = lengths(args[0])
    return _self_attention(steps, int(args[1])) + sum(steps) * int(args[14].numel() + args[16].numel())


def _recurrent_layer(args: Any, kwargs: Any, out: Any) -> int:
    x, from_input, from_state = args[:3]
    return int(prod(x.shape[:-1]) * (from_input.numel() + from_state.numel()))


def _recurrent_layer_backward(args: Any, kwargs: Any, out: Any) -> int:
    return 2 * _recurrent_layer(args, kwargs, out)


def _recurrent(args: Any, kwargs: Any, out: Any) -> int:
    # Every matrix of every layer and direction meets every step; a packed input has one row to a step.
    return int(prod(args[0].shape[:-1])) * sum(weight.numel() for weight in args[1] if weight.dim() == 2)


def _trilinear(args: Any, kwargs: Any, out: Any) -> int:
    shapes = []
    for factor, added in zip(args[:3], args[3:6], strict=True):
        shape = list(factor.shape)
        for axis in added:
            shape.insert(axis, 1)
        shapes.append(shape)
    return prod(max(sizes) for sizes in zip(*shapes, strict=True))


def _quantized_linear(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[0].numel() * out.shape[-1])


def _quantized_convolution(args: Any, kwargs: Any, out: Any) -> int:
    return int(out.numel() * prod(args[1].unpack()[0].shape[1:]))


def _quantized_transposed(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[0].numel() * prod(args[1].unpack()[0].shape[1:]))


_QUANTIZED_LINEAR = ("linear", "linear_relu", "linear_dynamic", "linear_relu_dynamic", "linear_dynamic_fp16")

_OWN: dict[str, Formula] = {
    **{name: _product(factors) for name, factors in PRODUCTS.items()},
    "aten::addr": _outer,
    "aten::linear": _linear,
    "aten::_grouped_mm": _grouped,
    "aten::_weight_int8pack_mm": _linear,
    "aten::_sparse_addmm": _sparse,
    "aten::convolution_backward": _convolution_backward,
    "aten::_slow_conv2d_forward": _of_output,
    "aten::mkldnn_convolution": _of_output,
    "aten::slow_conv3d_forward": _of_output,
    "aten::slow_conv_dilated2d": _of_output,
    "aten::slow_conv_dilated3d": _of_output,
    "aten::slow_conv_transpose2d": _of_input,
    "aten::slow_conv_transpose3d": _of_input,
    "aten::_conv_depthwise2d": _of_output,
    "aten::conv_depthwise3d": _of_output,
    "aten::conv_tbc": _time_batch_channel,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "aten::_native_multi_head_attention": _multi_head,
    "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    "aten::mkldnn_rnn_layer": _recurrent_layer,
    "aten::mkldnn_rnn_layer_backward": _recurrent_layer_backward,
    "aten::_cudnn_rnn": _recurrent,
    "aten::miopen_rnn": _recurrent,
    "aten::_trilinear": _trilinear,
    "torchvision::deform_conv2d": _of_output,
    **{name: _quantized_convolution for name in CONVOLUTIONS if name.startswith("quantized::conv")},
    **{name: _quantized_transposed for name in CONVOLUTIONS if name.startswith("quantized::conv_transpose")},
    **{f"quantized::{name}": _quantized_linear for name in _QUANTIZED_LINEAR},
}


def formula(operator: Any, name: str) -> Formula | None:
    """The formula of an operator's packet, called `name` (``aten::mm``); None when there is none."""
    own = _OWN.get(name)
    if own is not None:
        return own
    torchs = flop_registry.get(operator)
    if torchs is None:
        return None

    def count(args: Any, kwargs: Any, out: Any) -> int:
        return int(torchs(*args, **kwargs, out_val=out)) // 2

    return count
