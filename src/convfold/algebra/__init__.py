"""Operators, the laws between them, and what an expression can be read as."""

from convfold.algebra.laws import CHAIN_LAWS, Law
from convfold.algebra.laws.border import bias_map, fold_border, ones_channel, pad_first
from convfold.algebra.laws.compose import compose, regroup
from convfold.algebra.laws.merge import add_convs, join_blocks, join_rows, regroup_rows
from convfold.algebra.laws.special import as_full_map, as_pointwise
from convfold.algebra.operators import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Flat,
    Identity,
    Norm,
    Op,
    Pad,
    Pads,
    Select,
    Sum,
    chain_of,
    pointwise,
    sum_of,
)
from convfold.algebra.protocol import HOOKS, copy_hooks, defines_op, has_hooks, has_op, is_mixed, op
from convfold.algebra.readings.apply import apply, uses_batch_statistics
from convfold.algebra.readings.dense import dense
from convfold.algebra.readings.kernel import kernel
from convfold.algebra.readings.tensors import frozen, leaves, magnitude, tensors
from convfold.algebra.readings.text import text
from convfold.algebra.readings.twin import hollow, twin

__all__ = [
    "CHAIN_LAWS",
    "HOOKS",
    "Affine",
    "AvgPool",
    "Chain",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flat",
    "Identity",
    "Law",
    "Norm",
    "Op",
    "Pad",
    "Pads",
    "Select",
    "Sum",
    "add_convs",
    "apply",
    "as_full_map",
    "as_pointwise",
    "bias_map",
    "chain_of",
    "compose",
    "copy_hooks",
    "defines_op",
    "dense",
    "fold_border",
    "frozen",
    "has_hooks",
    "has_op",
    "hollow",
    "is_mixed",
    "join_blocks",
    "join_rows",
    "kernel",
    "leaves",
    "magnitude",
    "ones_channel",
    "op",
    "pad_first",
    "pointwise",
    "regroup",
    "regroup_rows",
    "sum_of",
    "tensors",
    "text",
    "twin",
    "uses_batch_statistics",
]
