"""Operators of aten that compute nothing: they fill, choose, move or draw numbers, in place or not."""

from __future__ import annotations

__all__ = ["MOVES"]

_FILL = """
arange eye fill full full_like linspace logspace new_full new_ones new_zeros ones ones_like scalar_tensor tril_indices
triu_indices zero zeros zeros_like _efficientzerotensor _new_zeros_with_same_feature_meta
bartlett_window blackman_window hamming_window hann_window kaiser_window range
"""
_DRAW = """
bernoulli cauchy exponential geometric log_normal multinomial normal normal_functional poisson rand rand_like randint
randint_like randn randn_like random randperm uniform
"""
_MOVE = """
block_diag cat channel_shuffle complex constant_pad_nd diag_embed diagonal_scatter flip im2col int_repr pixel_shuffle
pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
replication_pad2d replication_pad3d roll rot90 select_scatter slice_scatter stack tril triu _chunk_cat _pin_memory
_stack as_strided set squeeze t transpose unsqueeze detach swapaxes
"""
_CHOOSE = """
embedding gather index index_copy index_fill index_put index_select masked_fill masked_scatter masked_select
max_unpool2d max_unpool3d nonzero nonzero_static put scatter take unique_consecutive unique_dim
unique_dim_consecutive where _index_put_impl _unique _unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
"""
_PACK = """
_jagged_to_padded_dense_forward _pack_padded_sequence _padded_dense_to_jagged_forward _pad_packed_sequence _to_dense
_to_sparse sparse_coo_tensor _make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _coalesced
_convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _nested_tensor_from_mask _nested_tensor_from_padded
_coalesce _nested_tensor_from_mask_left_aligned to_padded_tensor to_mkldnn to_dense
"""
# Composite, and whole only on nested tensors: in eval mode they give what they are given.
_IDENTITY = """
dropout alpha_dropout feature_dropout
"""
_CHECK = """
_assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async _is_all_true _is_any_true
_linalg_check_errors
"""
_BACKWARD = """
select_backward slice_backward diagonal_backward index_select_backward nll_loss_backward nll_loss2d_backward
constant_pad_nd_backward unfold_backward
"""

MOVES = frozenset("".join((_FILL, _DRAW, _MOVE, _CHOOSE, _PACK, _IDENTITY, _CHECK, _BACKWARD)).split())
