"""Layers computed one multiplication at a time, with the number of multiplications made: an oracle for counters."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def _each(value, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * dims


class Loops:
    """`made` is the number of multiplications so far; padded zeros are multiplied as well."""

    def __init__(self) -> None:
        self.made = 0

    def times(self, a: float, b: float) -> float:
        self.made += 1
        return a * b

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """``(..., n, k) @ (..., k, m)``; leading axes are broadcast."""
        lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        left, right = a.expand(*lead, *a.shape[-2:]), b.expand(*lead, *b.shape[-2:])
        out = torch.empty(*lead, a.shape[-2], b.shape[-1], dtype=a.dtype)
        for at in product(*map(range, lead)):
            rows, columns = left[at].tolist(), right[at].t().tolist()
            for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
                out[(*at, i, j)] = sum(self.times(x, w) for x, w in zip(row, column, strict=True))
        return out

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``x @ weight.T + bias``"""
        out = self.matmul(x.reshape(-1, x.shape[-1]), weight.t()).reshape(*x.shape[:-1], weight.shape[0])
        return out if bias is None else out + bias

    def conv(self, x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
        """A convolution over ``(N, C, *)``."""
        dims = weight.dim() - 2
        stride, padding, dilation = (_each(v, dims) for v in (stride, padding, dilation))
        x = F.pad(x, [p for size in reversed(padding) for p in (size, size)])
        spatial = [
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(x.shape[2:], weight.shape[2:], stride, dilation, strict=True)
        ]
        out = torch.zeros(x.shape[0], weight.shape[0], *spatial, dtype=x.dtype)
        per_group = weight.shape[0] // groups
        for n, o, *at in product(range(x.shape[0]), range(weight.shape[0]), *map(range, spatial)):
            total = 0.0 if bias is None else float(bias[o])
            for c, *tap in product(*map(range, weight.shape[1:])):
                source = [i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True)]
                channel = o // per_group * weight.shape[1] + c
                total += self.times(float(weight[(o, c, *tap)]), float(x[(n, channel, *source)]))
            out[(n, o, *at)] = total
        return out

    def transposed(
        self, x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ) -> Tensor:
        """A transposed convolution: every element is scattered; cropping comes last."""
        dims = weight.dim() - 2
        stride, padding, more, dilation = (_each(v, dims) for v in (stride, padding, output_padding, dilation))
        full = [
            (size - 1) * s + d * (k - 1) + 1 + op
            for size, k, s, d, op in zip(x.shape[2:], weight.shape[2:], stride, dilation, more, strict=True)
        ]
        out = torch.zeros(x.shape[0], weight.shape[1] * groups, *full, dtype=x.dtype)
        for n, c, *at in product(*map(range, x.shape)):
            for o, *tap in product(*map(range, weight.shape[1:])):
                target = [i * s + t * d for i, s, t, d in zip(at, stride, tap, dilation, strict=True)]
                channel = c // (x.shape[1] // groups) * weight.shape[1] + o
                out[(n, channel, *target)] += self.times(float(weight[(c, o, *tap)]), float(x[(n, c, *at)]))
        for axis, p in enumerate(padding):
            out = out.narrow(axis + 2, p, out.shape[axis + 2] - 2 * p)
        return out if bias is None else out + bias.view(-1, *[1] * dims)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """``softmax(q k^T / sqrt(d) + mask) v``"""
        scores = self.matmul(query, key.transpose(-1, -2)) / query.shape[-1] ** 0.5
        return self.matmul(torch.softmax(scores if mask is None else scores + mask, -1), value)

    def multi_head(self, layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What ``nn.MultiheadAttention`` with batch_first computes."""
        width, heads = layer.embed_dim, layer.num_heads
        if layer.in_proj_weight is not None:
            weights = layer.in_proj_weight.chunk(3)
        else:
            weights = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        given = zip((query, key, value), weights, layer.in_proj_bias.chunk(3), strict=True)
        q, k, v = (self.linear(x, w, b).unflatten(-1, (heads, width // heads)).transpose(1, 2) for x, w, b in given)
        mixed = self.attention(q, k, v).transpose(1, 2).flatten(2)
        return self.linear(mixed, layer.out_proj.weight, layer.out_proj.bias)

    def lstm_cell(self, x, state, w_ih, w_hh, b_ih, b_hh, w_hr=None):
        """``(h, c)`` after one step."""
        h, c = state
        gates = self.linear(x, w_ih, b_ih) + self.linear(h, w_hh, b_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h if w_hr is None else self.linear(h, w_hr)), c

    def gru_cell(self, x, state, w_ih, w_hh, b_ih, b_hh):
        """The state after one step."""
        into, held = self.linear(x, w_ih, b_ih).chunk(3, 1), self.linear(state, w_hh, b_hh).chunk(3, 1)
        r, z = (torch.sigmoid(a + b) for a, b in zip(into[:2], held[:2], strict=True))
        n = torch.tanh(into[2] + r * held[2])
        return n + z * (state - n)

    def rnn_cell(self, x, state, w_ih, w_hh, b_ih, b_hh, act=torch.tanh):
        """The state after one step."""
        return act(self.linear(x, w_ih, b_ih) + self.linear(state, w_hh, b_hh))

    def recurrent(self, layer, x: Tensor) -> Tensor:
        """The sequence of states that nn.LSTM, nn.GRU and nn.RNN give for ``(T, N, I)``."""
        for depth in range(layer.num_layers):
            ways = [self._one_way(layer, x, f"_l{depth}")]
            if layer.bidirectional:
                ways.append(self._one_way(layer, x.flip(0), f"_l{depth}_reverse").flip(0))
            x = torch.cat(ways, 2)
        return x

    def _one_way(self, layer, x: Tensor, suffix: str) -> Tensor:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(layer, name + suffix, None) for name in names]
        state = torch.zeros(x.shape[1], weights[1].shape[1], dtype=x.dtype)
        memory = torch.zeros(x.shape[1], layer.hidden_size, dtype=x.dtype)
        out = []
        for step in x:
            if layer.mode == "LSTM":
                state, memory = self.lstm_cell(
                    step, (state, memory), *weights, getattr(layer, "weight_hr" + suffix, None)
                )
            elif layer.mode == "GRU":
                state = self.gru_cell(step, state, *weights)
            else:
                state = self.rnn_cell(step, state, *weights, torch.relu if "RELU" in layer.mode else torch.tanh)
            out.append(state)
        return torch.stack(out)


def of_module(loops: Loops, layer, x: Tensor) -> Tensor:
    """What nn.Conv*d or nn.ConvTranspose*d computes, by loops."""
    dims = layer.weight.dim() - 2
    batched = x if x.dim() == dims + 2 else x[None]
    if layer.transposed:
        out = loops.transposed(
            batched, layer.weight, layer.bias, layer.stride, layer.padding, layer.output_padding, layer.groups,
            layer.dilation,
        )  # fmt: skip
    else:
        padding = layer.padding
        if isinstance(padding, str) or layer.padding_mode != "zeros":
            around = layer._reversed_padding_repeated_twice if padding != "valid" else [0] * (2 * dims)
            batched = F.pad(batched, around, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
            padding = 0
        out = loops.conv(batched, layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)
    return out if x.dim() == dims + 2 else out[0]
