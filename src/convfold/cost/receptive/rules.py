"""What each operator reads of its operands: one rule per family, each a list of operands with their steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from convfold.cost.receptive import layouts, windows
from convfold.cost.receptive.call import Call, Reads
from convfold.cost.receptive.steps import broadcast, in_turn, mixed, renamed, window

__all__ = ["Rule", "rule_of"]

Rule = Callable[[Call], Reads]


def _elementwise(call: Call) -> Reads:
    return [(t, broadcast(t.shape, call.out.shape)) for t in call.operands]


def _source_only(call: Call) -> Reads:
    return [(call["src"], broadcast(call["src"].shape, call.out.shape))]


def _nothing(call: Call) -> Reads:
    return []


def _channels(call: Call) -> Reads:
    return [(call.x, mixed(call.x.shape, [1]))]


def _reduction(call: Call) -> Reads:
    x, given = call.x, call.named.get("dim")
    if given is None or given == []:
        given = range(x.dim())
    dims = [given] if isinstance(given, int) else list(given)
    return [(x, mixed(x.shape, dims, keep=bool(call.named.get("keepdim"))))]


def _along(call: Call) -> Reads:
    return [(call.x, mixed(call.x.shape, [call["dim"]]))]


def _layer_norm(call: Call) -> Reads:
    return [(call.x, mixed(call.x.shape, range(-len(call["normalized_shape"]), 0)))]


def _group_norm(call: Call) -> Reads:
    return [(call.x, mixed(call.x.shape, range(1, call.x.dim())))]


def _batch_norm(call: Call) -> Reads:
    training = call.named.get("training", call.named.get("train", False))
    x = call.x
    return [(x, mixed(x.shape, [d for d in range(x.dim()) if d != 1] if training else []))]


def _glu(call: Call) -> Reads:
    x, dim = call.x, call["dim"] % call.x.dim()
    half = int(x.shape[dim]) // 2
    return [(x, window(dim, 1, [0, half]))]


def _product(left: str, right: str, call: Call) -> Reads:
    a, b, rank = call[left], call[right], call.out.dim()
    reads: Reads = [(a, mixed(a.shape, [-1], keep=False))]
    if b.dim() == 1:
        reads.append((b, mixed(b.shape, [0], keep=False)))
    else:
        columns = b.dim() - 2  # once the rows are gone; before them comes the batch, where there is one
        places = {d: d for d in range(columns)} | {columns: rank - 1}
        reads.append((b, in_turn([mixed(b.shape, [-2], keep=False), renamed(places)])))
    bias = call.named.get("self")
    if bias is not None and bias is not a and bias is not b:
        reads.append((bias, broadcast(bias.shape, call.out.shape)))
    return reads


def _attention(call: Call) -> Reads:
    q, k, v = call["query"], call["key"], call["value"]
    mask = call.named.get("attn_mask", call.named.get("attn_bias"))
    reads = [(q, mixed(q.shape, [-1])), (k, mixed(k.shape, [-1, -2])), (v, mixed(v.shape, [-2]))]
    return reads if mask is None else [*reads, (mask, mixed(mask.shape, range(mask.dim())))]


_FAMILIES: dict[Rule, str] = {
    windows.convolution: "convolution _convolution",
    windows.pool: "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices",
    windows.adaptive_pool: "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d",
    windows.pad: "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
    "replication_pad1d replication_pad2d replication_pad3d",
    layouts.sliced: "slice",
    layouts.selected: "select",
    lambda call: layouts.selected(call, call.place): "unbind",
    layouts.split: "split split_with_sizes unsafe_split unsafe_split_with_sizes",
    layouts.flipped: "flip",
    layouts.permute: "permute",
    layouts.transpose: "transpose t",
    layouts.reshape: "view _unsafe_view reshape _reshape_alias",
    layouts.squeeze: "squeeze",
    layouts.unsqueeze: "unsqueeze",
    layouts.unfold: "unfold",
    layouts.cat: "cat",
    layouts.stack: "stack",
    windows.pixel_shuffle: "pixel_shuffle pixel_unshuffle",
    _channels: "channel_shuffle",
    _reduction: "mean sum amax amin max min var std var_mean prod logsumexp linalg_vector_norm norm argmax argmin "
    "any all",
    _along: "_softmax _log_softmax _safe_softmax cumsum sort topk",
    _layer_norm: "native_layer_norm",
    _group_norm: "native_group_norm",
    _batch_norm: "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm",
    _glu: "glu",
    partial(_product, "self", "mat2"): "mm bmm _int_mm",
    partial(_product, "mat1", "mat2"): "addmm",
    partial(_product, "batch1", "batch2"): "baddbmm",
    partial(_product, "self", "vec"): "mv",
    partial(_product, "self", "tensor"): "dot",
    _attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
    "_scaled_dot_product_fused_attention_overrideable",
    _elementwise: "hardswish hardswish_ hardtanh hardtanh_ hardsigmoid hardsigmoid_ leaky_relu leaky_relu_ elu elu_ "
    "celu _prelu_kernel native_dropout log_sigmoid_forward masked_fill expand clone _to_copy alias detach detach_ copy "
    "lift lift_fresh contiguous rrelu_with_noise threshold",
    _source_only: "copy_",
    _nothing: "fill_ zero_ uniform_ normal_ bernoulli_ zeros_like ones_like full_like empty_like new_empty new_zeros "
    "new_ones new_full rand_like randn_like empty zeros ones full arange rand randn scalar_tensor bernoulli",
    **{
        partial(windows.resize, kind): " ".join(f"{stem}{axes}" for stem, axes in names)
        for kind, names in {
            "nearest": [("upsample_nearest", "1d"), ("upsample_nearest", "2d"), ("upsample_nearest", "3d")],
            "nearest-exact": [("_upsample_nearest_exact", axes) for axes in ("1d", "2d", "3d")],
            "linear": [("upsample_linear", "1d"), ("upsample_bilinear", "2d"), ("upsample_trilinear", "3d")],
            "cubic": [("upsample_bicubic", "2d")],
            "linear_aa": [("_upsample_bilinear2d", "_aa")],
            "cubic_aa": [("_upsample_bicubic2d", "_aa")],
        }.items()
    },
}
_RULES = {name: rule for rule, names in _FAMILIES.items() for name in names.split()}


def rule_of(func: Any, name: str) -> Rule | None:
    """The rule for an operator; None when what it reads is not known."""
    found = _RULES.get(name)
    return _elementwise if found is None and torch.Tag.pointwise in func.tags else found
