"""FLOPs of one executed operator beyond the two of each multiply-accumulate: one rule for each kind of operator.

    FLOPs = 2 * MACs + rest

========================================  =====================================================================
kind                                      rest
========================================  =====================================================================
convolution, product with a bias          1 for each element of the result that a bias or a matrix is added to
elementwise, activation, comparison       1 for each element of the result, whatever the function
``addcmul addcdiv lerp``                  2, 2 and 3 for each element of the result
BN, running statistics                    2 for each element: a scale and a shift
BN of a batch, LayerNorm, GroupNorm       5 for each element (mean 1, deviation 1, variance 2, division 1),
                                          and 1 each for a scale and for a shift
softmax, log-softmax                      5 for each element: maximum, difference, exponential, sum, quotient
pooling                                   1 for each element under the window, for each element of the result
adaptive pooling                          the same; a window is from ``floor(i in/out)`` to ``ceil((i+1) in/out)``
sum, mean, maximum, cumulative sum, ...   1 for each element read; variance 4, norm 2, logsumexp 4
resizing, ``grid_sample``                 2 taps - 1 for each element of the result, over the taps that a sample
                                          is mixed from: 1 nearest, 2 linear, 4 cubic on each axis
``embedding_bag scatter_add col2im ...``  1 for each element that is added
distances, losses                         3 for each pair of elements that is compared
sorting                                   ``ceil(log2 n)`` for each of n elements
fused attention                           6 for each score: its scale, and softmax; biases as above
fused LSTM                                13 for each unit and step, and 8 for biases, as its parts would be counted
random numbers, moving, filling           0
========================================  =====================================================================

Backward operators: elementwise ones 1, pooling, resizing and lookups as forward, softmax 4, norms 8 for each
element (two sums of two and the combination of three terms), and a convolution's bias 1 for each element of
the gradient that is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import ceil, log2, prod
from typing import Any

import torch
from torch import Tensor

from convfold.cost.counting.moves import MOVES
from convfold.cost.counting.products import lengths

__all__ = ["Rest", "rest"]

# (arguments, keyword arguments, result) -> FLOPs
Rest = Callable[[Any, Any, Any], int]


def _first(tree: Any) -> Any:
    """The first tensor of a result."""
    return tree if isinstance(tree, Tensor) else tree[0]


def _out(factor: int) -> Rest:
    return lambda args, kwargs, out: factor * int(_first(out).numel())


def _read(factor: int, position: int = 0) -> Rest:
    def count(args: Any, kwargs: Any, out: Any) -> int:
        return factor * int(args[position].numel()) if isinstance(args[position], Tensor) else 0

    return count


def _nothing(args: Any, kwargs: Any, out: Any) -> int:
    return 0


def _bias(position: int) -> Rest:
    """A bias at `position`, added to each element of the result."""

    def count(args: Any, kwargs: Any, out: Any) -> int:
        bias = args[position] if len(args) > position else kwargs.get("bias")
        return 0 if bias is None else int(out.numel())

    return count


def _own_norm(first: int, each: int = 5) -> Rest:
    """`each` for an element, and one each for the scale and the shift at `first` and after."""

    def count(args: Any, kwargs: Any, out: Any) -> int:
        return int(args[0].numel()) * (each + sum(value is not None for value in args[first : first + 2]))

    return count


def _batch_norm(args: Any, kwargs: Any, out: Any) -> int:
    return _own_norm(1)(args, kwargs, out) if args[5] else 2 * int(args[0].numel())


def _window(dims: int, position: int, over: Rest) -> Rest:
    """A window at `position` for each element; one size stands for all axes."""

    def count(args: Any, kwargs: Any, out: Any) -> int:
        window = args[position]
        return over(args, kwargs, out) * int(window[0] ** dims if len(window) == 1 else prod(window))

    return count


def _windows(size: int, parts: int) -> int:
    """Sizes of the windows of adaptive pooling, summed."""
    return sum(-(-(i + 1) * size // parts) - i * size // parts for i in range(parts))


def _adaptive(dims: int) -> Rest:
    def count(args: Any, kwargs: Any, out: Any) -> int:
        before, after = args[0].shape, _first(out).shape
        axes = zip(before[-dims:], after[-dims:], strict=True)
        return int(prod(before[:-dims])) * prod(_windows(size, parts) for size, parts in axes)

    return count


def _adaptive_backward(dims: int) -> Rest:
    def count(args: Any, kwargs: Any, out: Any) -> int:
        return _adaptive(dims)((args[1],), kwargs, args[0])

    return count


def _smooth_resize(per_axis: int) -> Rest:
    """Against aliasing a window is wider by the ratio of sizes when it shrinks; one axis is done after the other."""

    def count(args: Any, kwargs: Any, out: Any) -> int:
        (height, width), (high, wide) = args[0].shape[-2:], out.shape[-2:]
        across = out.numel() // high * height * (2 * ceil(per_axis * max(1.0, width / wide)) - 1)
        return int(across + out.numel() * (2 * ceil(per_axis * max(1.0, height / high)) - 1))

    return count


def _grid_sample(args: Any, kwargs: Any, out: Any) -> int:
    per_axis = {0: 2, 1: 1, 2: 4}[args[2]]  # bilinear, nearest, bicubic
    taps = per_axis ** (args[0].dim() - 2)
    return (2 * taps - 1 if taps > 1 else 0) * int(out.numel())


def _deformed(args: Any, kwargs: Any, out: Any) -> int:
    sampled = args[0].shape[1] * prod(args[1].shape[2:]) * out.shape[0] * prod(out.shape[2:])
    # Each sample is mixed from four; the last argument says whether a mask scales it; then comes the bias.
    return int(sampled * (7 + bool(args[-1])) + out.numel())


def _sort(args: Any, kwargs: Any, out: Any) -> int:
    shape = args[0].shape
    dim = kwargs.get("dim", next((a for a in args[1:] if type(a) is int), -1))
    return int(args[0].numel()) * ceil(log2(max(shape[dim] if shape else 1, 1)))


def _bag(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[1].numel() * args[0].shape[-1])


def _distance(args: Any, kwargs: Any, out: Any) -> int:
    return 3 * int(out.numel() * args[0].shape[-1])


def _scores(args: Any, kwargs: Any, out: Any) -> int:
    return 6 * int(prod(args[0].shape[:-1]) * args[1].shape[-2])


def _multi_head(args: Any, kwargs: Any, out: Any) -> int:
    width, heads = args[3:5]
    pairs = zip(lengths(args[0]), lengths(args[1]), strict=True)
    return sum(6 * heads * queries * keys + 2 * width * (queries + keys) for queries, keys in pairs)


def _lstm(args: Any, kwargs: Any, out: Any) -> int:
    # Two biases: 8. The sum of two products: 4. Gates: 4. Three products, a sum and the last tanh: 5.
    return (13 + 8 * bool(args[12])) * int(prod(args[0].shape[:-1])) * int(args[10])


def _outer(args: Any, kwargs: Any, out: Any) -> int:
    return int(args[0].numel() * args[2].shape[-1])


def _all(names: str, count: Rest) -> dict[str, Rest]:
    return dict.fromkeys(names.split(), count)


_TAPS = {"nearest": 1, "linear": 2, "bilinear": 4, "trilinear": 8, "bicubic": 16}

# Elementwise operators that torch does not mark, and the rest; those of aten by bare name.
_RULES: dict[str, Rest] = {
    **dict.fromkeys(MOVES, _nothing),
    **_all("mm bmm mv dot vdot _int_mm _grouped_mm _weight_int8pack_mm cudnn_convolution", _nothing),
    **_all("addmm baddbmm addbmm addmv addr _addmm_activation _sparse_addmm conv_tbc", _out(1)),
    **_all("convolution _convolution convolution_overrideable mkldnn_convolution", _bias(2)),
    "linear": _bias(2),
    **_all("_slow_conv2d_forward slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d", _bias(3)),
    **_all("slow_conv_transpose2d slow_conv_transpose3d _conv_depthwise2d conv_depthwise3d", _bias(3)),
    **_all("glu _prelu_kernel dequantize native_dropout rrelu_with_noise log_sigmoid_forward rsub", _out(1)),
    **_all("floor_divide _add_relu hardswish _masked_scale rrelu_with_noise_functional", _out(1)),
    **_all("addcmul addcdiv affine_grid_generator polar quantize_per_tensor quantize_per_channel", _out(2)),
    **_all("lerp _weight_norm_interface", _out(3)),
    **_all("native_batch_norm _native_batch_norm_legit cudnn_batch_norm miopen_batch_norm", _batch_norm),
    **_all("_native_batch_norm_legit_functional", _batch_norm),
    **_all("_native_batch_norm_legit_no_training _batch_norm_no_update", _read(2)),
    **_all("_batch_norm_with_update native_group_norm", _own_norm(1)),
    "native_layer_norm": _own_norm(2),
    "_fused_rms_norm": lambda args, kwargs, out: int(args[0].numel()) * (3 + (args[2] is not None)),
    **_all("native_batch_norm_backward cudnn_batch_norm_backward batch_norm_backward", _read(8)),
    **_all("native_layer_norm_backward native_group_norm_backward", _read(8)),
    **_all("_softmax _log_softmax _safe_softmax _masked_softmax", _out(5)),
    **_all("_softmax_backward_data _log_softmax_backward_data", _out(4)),
    **_all("avg_pool2d max_pool2d_with_indices mkldnn_max_pool2d fractional_max_pool2d", _window(2, 1, _out(1))),
    **_all("avg_pool3d max_pool3d_with_indices mkldnn_max_pool3d fractional_max_pool3d", _window(3, 1, _out(1))),
    "avg_pool2d_backward": _window(2, 2, _read(1)),
    "avg_pool3d_backward": _window(3, 2, _read(1)),
    **_all("max_pool2d_with_indices_backward max_pool3d_with_indices_backward", _read(1)),
    **_all("adaptive_max_pool2d_backward adaptive_max_pool3d_backward", _read(1)),
    **_all("_adaptive_avg_pool2d adaptive_max_pool2d", _adaptive(2)),
    **_all("_adaptive_avg_pool3d adaptive_max_pool3d", _adaptive(3)),
    "_adaptive_avg_pool2d_backward": _adaptive_backward(2),
    "_adaptive_avg_pool3d_backward": _adaptive_backward(3),
    **_all("all amax amin aminmax _aminmax any argmax argmin count_nonzero mean nansum prod sum max min", _read(1)),
    **_all("median nanmedian cumsum cumprod _cummax_helper _cummin_helper trace topk kthvalue mode", _read(1)),
    **_all("bincount histc bucketize searchsorted segment_reduce embedding_dense_backward col2im", _read(1)),
    **_all("var std var_mean std_mean logsumexp logcumsumexp _logcumsumexp", _read(4)),
    **_all("norm linalg_vector_norm renorm", _read(2)),
    **_all("dist mse_loss smooth_l1_loss huber_loss soft_margin_loss binary_cross_entropy isin", _read(3)),
    **_all("binary_cross_entropy_with_logits multi_margin_loss multilabel_margin_loss_forward", _read(3)),
    **_all("mse_loss_backward smooth_l1_loss_backward huber_loss_backward", _out(2)),
    **_all("_cdist_forward _euclidean_dist", _distance),
    **_all("nll_loss_forward nll_loss2d_forward", _read(1, 1)),
    **_all("index_add scatter_add scatter_reduce index_reduce", _read(1, 3)),
    **_all("_embedding_bag _embedding_bag_forward_only", _bag),
    **_all("sort argsort msort", _sort),
    **{f"upsample_{kind}{d}d": _out(2 * t - 1 if t > 1 else 0) for kind, t in _TAPS.items() for d in (1, 2, 3)},
    **{f"upsample_{kind}{d}d_backward": _read(2 * t - 1) for kind, t in _TAPS.items() for d in (1, 2, 3)},
    "_upsample_bilinear2d_aa": _smooth_resize(2),
    "_upsample_bicubic2d_aa": _smooth_resize(4),
    **_all("grid_sampler_2d grid_sampler_3d", _grid_sample),
    "convolution_backward": lambda args, kwargs, out: int(args[0].numel()) if args[10][2] else 0,
    **_all("_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention", _scores),
    **_all("_scaled_dot_product_cudnn_attention _scaled_dot_product_flash_attention_for_cpu", _scores),
    "_scaled_dot_product_fused_attention_overrideable": _scores,
    "_native_multi_head_attention": _multi_head,
    "mkldnn_rnn_layer": _lstm,
    "_trilinear": _outer,
    "torchvision::deform_conv2d": _deformed,
}


@cache
def rest(operator: Any, name: str) -> Rest | None:
    """The rule of an operator called `name` (``aten::relu_``); None when there is none.

    An operator in place has the rule of the one that is not.
    """
    bare = name.removeprefix("aten::")
    functional = bare.removesuffix("_")
    known = _RULES.get(bare) or _RULES.get(functional)
    if known is not None:
        return known
    if torch.Tag.pointwise in operator.tags:
        return _out(1)
    twin = getattr(torch.ops.aten, functional, None) if name.startswith("aten::") else None
    tags = () if twin is None else getattr(twin, twin.overloads()[0]).tags
    return _out(1) if torch.Tag.pointwise in tags else None
