"""The laws of the counter cases against layers that are computed one multiplication at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.studies.bench.counters.table import CASES, case_named
from support.loops import Loops, of_module

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def inner(model):
    return model.layers[0]


def deformable(loops, model, x):
    batch, channels, height, width = x.shape
    offsets = torch.tanh(of_module(loops, model.offset, x))
    where = offsets.view(batch, 9, 2, height, width).permute(0, 1, 3, 4, 2).reshape(batch, 9 * height, width, 2)
    sampled = F.grid_sample(x, where, align_corners=False).view(batch, channels * 9, height * width)
    return loops.matmul(model.weight, sampled).view(batch, 6, height, width)


def per_sample(loops, model, x):
    route = torch.softmax(loops.linear(x.mean((2, 3)), model.route.weight, model.route.bias), 1)
    kernels = loops.matmul(route, model.experts).view(-1, 6, 4, 3, 3)
    return torch.cat([loops.conv(one[None], kernel, padding=1) for one, kernel in zip(x, kernels, strict=True)])


def encoder(loops, layer, x):
    x = layer.norm1(x + loops.multi_head(layer.self_attn, x, x, x))
    hidden = torch.relu(loops.linear(x, layer.linear1.weight, layer.linear1.bias))
    return layer.norm2(x + loops.linear(hidden, layer.linear2.weight, layer.linear2.bias))


def padded(loops, model, x):
    """Each sequence on its own, without its padding."""
    out = torch.zeros(2, 5, 8).double()
    for sample, length in enumerate((5, 3)):
        inside = x[sample : sample + 1, :length]
        for layer in inner(model).layers:
            inside = encoder(loops, layer, inside)
        out[sample, :length] = inside[0]
    return out


def decoder(loops, layer, x, memory):
    x = layer.norm1(x + loops.multi_head(layer.self_attn, x, x, x))
    x = layer.norm2(x + loops.multi_head(layer.multihead_attn, x, memory, memory))
    hidden = torch.relu(loops.linear(x, layer.linear1.weight, layer.linear1.bias))
    return layer.norm3(x + loops.linear(hidden, layer.linear2.weight, layer.linear2.bias))


def packed(loops, model, x):
    """Steps of both sequences, then those of the longer one, each way of its own length."""
    long, short = loops.recurrent(inner(model), x[:, :1]), loops.recurrent(inner(model), x[:3, 1:])
    return torch.cat([part[t] for t in range(5) for part in ((long, short) if t < 3 else (long,))])


def standardised(loops, model, x):
    return loops.conv(x, model.weight - model.weight.mean((1, 2, 3), keepdim=True), model.bias)


def shared(loops, model, x):
    return of_module(loops, model[2], torch.relu(of_module(loops, model[0], x)))


def separable(loops, model, x):
    return of_module(loops, model[3], torch.relu(model[1](of_module(loops, model[0], x))))


def two_linear(loops, model, x):
    return loops.linear(loops.linear(x, model[0].weight), model[1].weight, model[1].bias)


def bilinear(loops, layer, x, z):
    outer = torch.einsum("ni,nj->nij", x, z).flatten(1)
    return loops.linear(outer, layer.weight.flatten(1), layer.bias)


def cell_loop(loops, model, x):
    cell, state = model.cell, (torch.zeros(2, 4).double(), torch.zeros(2, 4).double())
    for step in x:
        state = loops.lstm_cell(step, state, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    return state[0]


def one_cell(kind):
    def run(loops, cell, x):
        zero = torch.zeros(len(x), cell.hidden_size).double()
        state = (zero, zero) if kind == "lstm_cell" else zero
        after = getattr(loops, kind)(x, state, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return after[0] if isinstance(after, tuple) else after

    return run


def self_attention(loops, model, x):
    batched = x if x.dim() == 3 else x[None]
    batched = batched if inner(model).batch_first or x.dim() == 2 else batched.transpose(0, 1)
    out = loops.multi_head(inner(model), batched, batched, batched)
    out = out if inner(model).batch_first or x.dim() == 2 else out.transpose(0, 1)
    return out if x.dim() == 3 else out[0]


def power(loops, model, a):
    square = loops.matmul(a, a)
    return loops.matmul(loops.matmul(square, square), a)


def unbatched(loops, layer, x):
    return loops.recurrent(layer, x[:, None])[:, 0]


BY_HAND = {
    "Conv2d, separable": separable,
    "F.conv2d with a module's weight": lambda loops, m, x: loops.conv(x, inner(m).weight),
    "F.conv2d with an input as kernel": lambda loops, m, x, w: loops.conv(x, w),
    "F.conv_transpose2d with an input as kernel, 2 groups": lambda loops, m, x, w: loops.transposed(
        x, w, stride=2, groups=2
    ),
    "Conv2d with a kernel for each sample": per_sample,
    "Deformable Conv2d": deformable,
    "Conv2d, weight standardised": standardised,
    "Conv2d, one weight in two layers": shared,
    "Conv2d, called twice": lambda loops, m, x: of_module(loops, inner(m), of_module(loops, inner(m), x)),
    "Conv2d, under checkpoint": lambda loops, m, x: of_module(loops, inner(m), x),
    "Conv2d and PixelShuffle": lambda loops, m, x: m[1](of_module(loops, m[0], x)),
    "conv_tbc": lambda loops, m, x, w, b: loops.conv(x.permute(1, 2, 0), w.permute(2, 1, 0), b, padding=1).permute(
        2, 0, 1
    ),
    "Unfold and a matrix product": lambda loops, m, x: loops.conv(x, inner(m).weight).flatten(2),
    "Linear, low rank": two_linear,
    "Linear in 3 groups": lambda loops, m, x: torch.cat(
        [loops.matmul(part, w) for part, w in zip(x.chunk(3, 1), m.weight, strict=True)], 1
    ),
    "F.linear with an input as matrix": lambda loops, m, *given: loops.linear(*given),
    "Bilinear": bilinear,
    "matmul of matrices": lambda loops, m, a, b: loops.matmul(a, b),
    "@ with a matrix in the model": lambda loops, m, x: loops.linear(x, inner(m).weight),
    "matmul of batches": lambda loops, m, a, b: loops.matmul(a, b),
    "matmul, broadcast": lambda loops, m, a, b: loops.matmul(a, b),
    "bmm": lambda loops, m, a, b: loops.matmul(a, b),
    "addmm": lambda loops, m, c, a, b: c + loops.matmul(a, b),
    "baddbmm": lambda loops, m, c, a, b: c + loops.matmul(a, b),
    "addbmm": lambda loops, m, c, a, b: c + loops.matmul(a, b).sum(0),
    "mv": lambda loops, m, a, b: loops.matmul(a, b[:, None])[:, 0],
    "addmv": lambda loops, m, c, a, b: c + loops.matmul(a, b[:, None])[:, 0],
    "matmul of a matrix and a vector": lambda loops, m, a, b: loops.matmul(a, b[:, None])[:, 0],
    "dot": lambda loops, m, a, b: loops.matmul(a[None], b[:, None])[0, 0],
    "vdot": lambda loops, m, a, b: loops.matmul(a[None], b[:, None])[0, 0],
    "addr": lambda loops, m, c, a, b: c + loops.matmul(a[:, None], b[None]),
    "einsum, 1x1 convolution": lambda loops, m, x, w: loops.conv(x, w[..., None, None]),
    "einsum, scores of heads": lambda loops, m, q, k: loops.matmul(q.transpose(1, 2), k.permute(0, 2, 3, 1)),
    "tensordot": lambda loops, m, a, b: loops.matmul(a.flatten(1), b.flatten(0, 1)),
    "a chain of three matrices": lambda loops, m, a, b, c: loops.matmul(loops.matmul(a, b), c),
    "matrix_power, 5": power,
    "Linear on nested sequences": lambda loops, m, a, b: loops.linear(
        torch.cat([a, b]), inner(m).weight, inner(m).bias
    ),
    "attention": lambda loops, m, q, k, v: loops.attention(q, k, v),
    "attention, written out": lambda loops, m, q, k, v: loops.attention(q, k, v),
    "attention, masked": lambda loops, m, q, k, v, mask: loops.attention(q, k, v, mask),
    "attention, causal": lambda loops, m, q, k, v: loops.attention(q, k, v, torch.full((4, 4), -torch.inf).triu(1)),
    "attention, 4 heads on 2": lambda loops, m, q, k, v: loops.attention(
        q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    ),
    "MultiheadAttention, of other widths": lambda loops, m, q, k, v: loops.multi_head(inner(m), q, k, v),
    "TransformerEncoderLayer": encoder,
    "TransformerDecoderLayer": decoder,
    "TransformerEncoder, padded, 2 layers": padded,
    "LSTM, batch first": lambda loops, m, x: loops.recurrent(m, x.transpose(0, 1)).transpose(0, 1),
    "LSTM, unbatched": unbatched,
    "LSTM, packed": packed,
    "GRU, packed, both ways": packed,
    "LSTM as a loop of cells": cell_loop,
    "LSTMCell": one_cell("lstm_cell"),
    "GRUCell": one_cell("gru_cell"),
    "RNNCell": one_cell("rnn_cell"),
}


def by_hand(case, model):
    """How to compute the case by loops; None when nothing here does."""
    if case.name in BY_HAND:
        return BY_HAND[case.name]
    if isinstance(model, CONVS):
        return of_module
    if isinstance(model, nn.RNNBase):
        return lambda loops, layer, x: loops.recurrent(layer, x)
    if isinstance(model, nn.Linear):
        return lambda loops, layer, x: loops.linear(x, layer.weight, layer.bias)
    return self_attention if case.name.startswith("MultiheadAttention") else None


LOOPED = [case for case in CASES if by_hand(case, case.build()) is not None]


def test_most_cases_are_computed_by_loops():
    # The rest are the ones without products, and those that read values of another type or are compiled.
    rest = [case.name for case in CASES if case.macs.value and case not in LOOPED]
    assert rest == [
        "Conv2d, called at two sizes",
        "Conv2d, traced by torch.fx",
        "Linear, tied to an embedding",
        "Linear, quantised dynamically",
        "sparse matrix product",
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", LOOPED, ids=lambda case: case.name)
def test_the_law_is_what_loops_multiply(case):
    torch.manual_seed(0)
    model = case.build().double().eval()
    inputs = [value.double() if value.is_floating_point() else value for value in case.inputs()]
    loops = Loops()
    with torch.no_grad():
        for statistics in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            statistics.running_mean.normal_()
        hand = by_hand(case, model)(loops, model, *inputs)
        out = model(*inputs)
    torch.testing.assert_close(hand, out[0] if isinstance(out, tuple) else out)
    assert loops.made == case.macs.value


def test_an_unknown_case_offers_the_nearest():
    with pytest.raises(Exception, match=r"no counter case has this name: got 'LTSM'. Did you mean LSTM"):
        case_named("LTSM")
