"""Small faults in the source of the laws: the function, a piece of its text, and what is put in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convfold.algebra.laws import border, merge, select, special, transpose, unroll
from convfold.algebra.readings import kernel as reading
from convfold.algebra.readings import tensors
from convfold.geometry import groups, window

__all__ = ["OTHER_FAULTS"]

Fault = tuple[Callable[..., Any], str, str]

OTHER_FAULTS: dict[str, Fault] = {
    "forget the stride in the composed offset": (window._chain_axis, "u.lo + u.stride * t.lo", "u.lo + t.lo"),
    "forget the stride in the composed slack": (window._chain_axis, "u.stride * (1 + t.slack)", "1 + t.slack"),
    "strides do not multiply": (window._chain_axis, "u.stride * t.stride", "t.stride"),
    "a one-tap kernel keeps its dilation": (window._chain_axis, "u.dilation if u.kernel > 1 else 0", "u.dilation"),
    "no border is read": (window.reads_past_border, "return True", "return False"),
    "a crop is forgotten": (window.reads_past_border, "u.stride * nearest + u.lo", "u.stride * nearest + max(u.lo, 0)"),
    "shift an embedding by one": (
        merge.place,
        "(p.start, p.size - p.start - k)",
        "(p.start + 1, p.size - p.start - k - 1)",
    ),
    "shift a dilated embedding by one": (
        merge.place,
        "slice(p.start, p.start + p.step",
        "slice(p.start + 1, p.start + 1 + p.step",
    ),
    "swap height and width in placement": (merge.place, "for pair in reversed(edges)", "for pair in edges"),
    "centre one tap early": (window.embed, "(kernel - 1) // 2", "kernel // 2"),
    "union starts at the first branch": (window._union_axis, "min(-axis.lo for axis in axes)", "-axes[0].lo"),
    "union on the first dilation": (
        window._union_axis,
        "lattice = gcd(lattice, -axis.lo - start,",
        "lattice = gcd(lattice, 0,",
    ),
    "mix padding modes": (merge._common_mode, "len(modes) > 1", "len(modes) > 2"),
    "not all branches are summed": (merge.add_convs, "kernels[1:], convs[1:]", "kernels[2:], convs[2:]"),
    "the groups of the first branch": (groups.common_groups, "gcd(*groups)", "groups[0]"),
    "the larger groups of a chain": (groups.chain_groups, "gcd(first, second)", "max(first, second)"),
    "rows in the wrong order": (merge.join_rows, "torch.cat(rows)", "torch.cat(rows[::-1])"),
    "biases in the wrong order": (merge._stacked_biases, "for conv in convs])", "for conv in convs[::-1]])"),
    "blocks in the wrong order": (merge.join_blocks, "torch.cat(blocks)", "torch.cat(blocks[::-1])"),
    "regrouped rows not permuted": (merge.regroup_rows, "q * total + start + r", "start * groups + q * width + r"),
    "regrouped bias in branch order": (
        merge.regroup_rows,
        "_bias(conv).reshape(groups, -1) for conv in convs], dim=1)",
        "_bias(conv) for conv in convs], dim=0)",
    ),
    "pool by one tap too few": (special.pool_as_conv, "prod(taps)", "(prod(taps) - 1)"),
    "pool forgets its divisor": (special.pool_as_conv, "pool.divisor or prod(taps)", "prod(taps)"),
    "identity in every column": (special._diagonal, "scale.shape[0], mode", "1, mode"),
    "select rows but not biases": (select.rows_of, "conv.bias.index_select(0, index)", "conv.bias[: len(index)]"),
    "columns counted in the whole": (select.columns_of, "source % wide", "source % len(select.index) % wide"),
    "a group kept that is left": (groups.kept_groups, "source // wide == j // narrow", "True"),
    "uneven groups kept": (groups.kept_groups, "or inner % candidate", ""),
    "selections in the wrong order": (
        select.select_after_select,
        "first.index[j] for j in second.index",
        "second.index[j % 3] for j in first.index",
    ),
    "transposed: scale on inputs": (
        transpose.affine_after_transposed,
        "reshape(conv.groups, 1, -1,",
        "reshape(1, 1, -1)[..., : conv.weight.shape[1]].reshape(1, 1, -1,",
    ),
    "transposed: bias not scaled": (transpose.affine_after_transposed, "bias * affine.scale.to(bias)", "bias"),
    "transposed: 1x1 drops the bias": (
        transpose.pointwise_after_transposed,
        "add_biases(pushed, second.bias)",
        "second.bias",
    ),
    "transposed: 1x1 not applied to the bias": (
        transpose.pointwise_after_transposed,
        "(matrix * first.bias.reshape(groups, 1, -1)).sum(-1).reshape(-1)",
        "first.bias[: second.out_channels]",
    ),
    "transposed: bias before let through": (transpose.transposed_after_pointwise, "first.bias is not None", "False"),
    "transposed: 1x1 before transposed": (
        transpose.transposed_after_pointwise,
        '"gij,giok->gjok", _matrix(first, groups)',
        '"gij,giok->gjok", _matrix(first, groups).flip(1)',
    ),
    "ones: no bias column": (border.ones_channel, "[weight, extra]", "[weight, 0 * extra]"),
    "ones: the later bias dropped": (border.ones_channel, "second.bias,", "None,"),
    "map: of the padded bias": (
        border.bias_map,
        "apply(second, constant.unsqueeze(0))",
        "apply(replace(second, padding_mode='replicate'), constant.unsqueeze(0))",
    ),
    "pad first: on one side only": (border.pad_first, "Axis(lo=lo, hi=hi)", "Axis(lo=lo, hi=lo)"),
    "unroll: the matrix not transposed": (
        unroll.unroll,
        "apply(plain, units).reshape(width * positions, -1).T",
        "apply(plain, units).reshape(width * positions, -1).reshape(-1, width * positions)",
    ),
    "unroll: padding forgotten": (unroll.unroll, "conv.groups, conv.padding_mode)", "conv.groups)"),
    "unroll: biases tiled": (unroll.unroll, "conv.bias.repeat_interleave(", "conv.bias.repeat("),
    "repeat: factors tiled": (unroll.repeat, "scale.repeat_interleave(", "scale.repeat("),
    "repeat: shifts tiled": (unroll.repeat, "shift.repeat_interleave(", "shift.repeat("),
    "chain in reverse": (reading._reduce, "_chain(a, b, like)", "_chain(b, a, like)"),
    "one tensor for all": (
        tensors.map_tensors,
        "changed[id(tensor)] = (tensor, change(tensor))",
        "changed[id(tensor)] = (tensor, change(tensor) * 2)",
    ),
}
