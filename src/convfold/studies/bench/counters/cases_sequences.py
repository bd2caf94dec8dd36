"""Cases of attention in all its forms and of recurrent layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from convfold.studies.bench.counters.cases import Calls, Case, Law, law

__all__ = ["ATTENTION", "RECURRENT"]

_attend = F.scaled_dot_product_attention


def _given(*shapes: tuple[int, ...]) -> Any:
    return lambda: tuple(torch.randn(*shape) for shape in shapes)


def _multi_head(batch: int, queries: int, keys: int, width: int) -> Law:
    """Projections of queries and result, of keys and values; scores and their use, over all heads together."""
    projections = law(two=2, b=batch, queries=queries, w=width, v=width) + law(
        two=2, b=batch, keys=keys, w=width, v=width
    )
    return projections + law(two=2, b=batch, queries=queries, keys=keys, w=width)


def _feed_forward(batch: int, tokens: int, width: int, hidden: int) -> Law:
    return law(two=2, batch=batch, tokens=tokens, width=width, hidden=hidden)


def _padded() -> nn.Module:
    # Five tokens and three: the fast path leaves the padding out.
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    return Calls(lambda encode, x: encode(x, src_key_padding_mask=x[..., 0].isnan()), model)


def _gapped() -> tuple[Tensor, ...]:
    x = torch.randn(2, 5, 8)
    x[1, 3:] = torch.nan
    return (x,)


class _Byhand(nn.Module):
    """An LSTM written as a loop over cells."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        state: tuple[Tensor, Tensor] | None = None
        for step in x:
            state = self.cell(step, state)
        assert state is not None
        return state[0]


def _self_attention(need_weights: bool, **options: Any) -> Any:
    layer = lambda: nn.MultiheadAttention(8, 2, **options)  # noqa: E731
    return lambda: Calls(lambda attend, x: attend(x, x, x, need_weights=need_weights)[0], layer())


def _packed(layer: nn.Module) -> nn.Module:
    # Five steps and three: in a batch, the second is over after the third step.
    return Calls(lambda rnn, x: rnn(pack_padded_sequence(x, torch.tensor([5, 3], device="cpu")))[0].data, layer)


_QKV = _given((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 6))
_SCORES = law(batch=2, heads=3, queries=4, keys=5, width=8) + law(batch=2, heads=3, queries=4, keys=5, values=6)
_SQUARE = law(two=2, batch=2, heads=3, queries=4, keys=4, width=8)
_STEPS = _given((5, 2, 3))


def _gates(gates: int, hidden: int = 4, inputs: int = 3, tokens: int = 5 * 2, ways: int = 1) -> Law:
    """Each gate takes the input and the last state, at every step of every sequence."""
    into = law(ways=ways, tokens=tokens, gates=gates, hidden=hidden, inputs=inputs)
    return into + law(ways=ways, tokens=tokens, gates=gates, hidden=hidden, state=hidden)


ATTENTION = (
    Case("attention", lambda: Calls(lambda q, k, v: _attend(q, k, v)), _QKV, _SCORES),
    Case(
        "attention, causal",
        lambda: Calls(lambda q, k, v: _attend(q, k, v, is_causal=True)),
        _given(*[(2, 3, 4, 8)] * 3),
        _SQUARE,
    ),
    Case(
        "attention, masked",
        lambda: Calls(lambda q, k, v, mask: _attend(q, k, v, attn_mask=mask)),
        _given(*[(2, 3, 4, 8)] * 3, (4, 4)),
        _SQUARE,
    ),
    Case(
        "attention, 4 heads on 2",
        lambda: Calls(lambda q, k, v: _attend(q, k, v, enable_gqa=True)),
        _given((2, 4, 5, 8), (2, 2, 5, 8), (2, 2, 5, 8)),
        law(two=2, batch=2, heads=4, queries=5, keys=5, width=8),
    ),
    Case(
        "attention, written out",
        lambda: Calls(lambda q, k, v: torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v),
        _QKV,
        _SCORES,
    ),
    Case("MultiheadAttention", _self_attention(True, batch_first=True), _given((2, 5, 8)), _multi_head(2, 5, 5, 8)),
    Case(
        "MultiheadAttention, weights not needed",
        _self_attention(False, batch_first=True),
        _given((2, 5, 8)),
        _multi_head(2, 5, 5, 8),
    ),
    Case("MultiheadAttention, time first", _self_attention(False), _given((5, 2, 8)), _multi_head(2, 5, 5, 8)),
    Case("MultiheadAttention, unbatched", _self_attention(True), _given((5, 8)), _multi_head(1, 5, 5, 8)),
    Case(
        "MultiheadAttention, of other widths",
        lambda: Calls(
            lambda attend, q, k, v: attend(q, k, v)[0], nn.MultiheadAttention(8, 2, kdim=6, vdim=7, batch_first=True)
        ),
        _given((2, 4, 8), (2, 5, 6), (2, 5, 7)),
        law(two=2, b=2, queries=4, w=8, v=8)
        + law(b=2, keys=5, w=6, v=8)
        + law(b=2, keys=5, w=7, v=8)
        + law(two=2, b=2, queries=4, keys=5, w=8),
    ),
    Case(
        "TransformerEncoderLayer",
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        _given((2, 5, 8)),
        _multi_head(2, 5, 5, 8) + _feed_forward(2, 5, 8, 16),
    ),
    Case(
        "TransformerDecoderLayer",
        lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True),
        _given((2, 4, 8), (2, 5, 8)),
        _multi_head(2, 4, 4, 8) + _multi_head(2, 4, 5, 8) + _feed_forward(2, 4, 8, 16),
    ),
    Case(
        "TransformerEncoder, padded, 2 layers",
        _padded,
        _gapped,
        2 * (_multi_head(1, 5, 5, 8) + _multi_head(1, 3, 3, 8) + _feed_forward(1, 5 + 3, 8, 16)),
        real=True,
    ),
)

RECURRENT = (
    Case("LSTM", lambda: nn.LSTM(3, 4), _STEPS, _gates(4)),
    Case("LSTM without biases", lambda: nn.LSTM(3, 4, bias=False), _STEPS, _gates(4)),
    Case("LSTM, batch first", lambda: nn.LSTM(3, 4, batch_first=True), _given((2, 5, 3)), _gates(4)),
    Case("LSTM, both ways", lambda: nn.LSTM(3, 4, bidirectional=True), _STEPS, _gates(4, ways=2)),
    Case("LSTM, 2 layers", lambda: nn.LSTM(3, 4, 2), _STEPS, _gates(4) + _gates(4, inputs=4)),
    Case(
        "LSTM, 2 layers both ways",
        lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        _STEPS,
        _gates(4, ways=2) + _gates(4, inputs=8, ways=2),
    ),
    Case(
        "LSTM, projected",
        lambda: nn.LSTM(3, 4, proj_size=2),
        _STEPS,
        law(tokens=10, gates=4, hidden=4, inputs=3)
        + law(tokens=10, gates=4, hidden=4, state=2)
        + law(tokens=10, projected=2, hidden=4),
    ),
    Case("LSTM, unbatched", lambda: nn.LSTM(3, 4), _given((5, 3)), _gates(4, tokens=5)),
    Case("LSTM, packed", lambda: _packed(nn.LSTM(3, 4)), _STEPS, _gates(4, tokens=5 + 3), real=True),
    Case("LSTM as a loop of cells", _Byhand, _STEPS, _gates(4)),
    Case("GRU", lambda: nn.GRU(3, 4), _STEPS, _gates(3)),
    Case(
        "GRU, 2 layers both ways",
        lambda: nn.GRU(3, 4, 2, bidirectional=True),
        _STEPS,
        _gates(3, ways=2) + _gates(3, inputs=8, ways=2),
    ),
    Case(
        "GRU, packed, both ways",
        lambda: _packed(nn.GRU(3, 4, bidirectional=True)),
        _STEPS,
        _gates(3, tokens=5 + 3, ways=2),
        real=True,
    ),
    Case("RNN", lambda: nn.RNN(3, 4), _STEPS, _gates(1)),
    Case(
        "RNN, relu, both ways", lambda: nn.RNN(3, 4, nonlinearity="relu", bidirectional=True), _STEPS, _gates(1, ways=2)
    ),
    Case("LSTMCell", lambda: nn.LSTMCell(3, 4), _given((2, 3)), _gates(4, tokens=2)),
    Case("GRUCell", lambda: nn.GRUCell(3, 4), _given((2, 3)), _gates(3, tokens=2)),
    Case("RNNCell", lambda: nn.RNNCell(3, 4), _given((2, 3)), _gates(1, tokens=2)),
)
