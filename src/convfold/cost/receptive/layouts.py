"""What operators that only move dimensions about, cut or join them read."""

from __future__ import annotations

from convfold.cost.receptive.call import Call, Reads
from convfold.cost.receptive.steps import in_turn, mixed, permuted, reshaped, unless, window

__all__ = [
    "cat",
    "flipped",
    "permute",
    "reshape",
    "selected",
    "sliced",
    "split",
    "squeeze",
    "stack",
    "transpose",
    "unfold",
    "unsqueeze",
]


def sliced(call: Call) -> Reads:
    x, dim = call.x, call["dim"] % call.x.dim()
    size = int(x.shape[dim])
    start = call["start"] or 0
    start = min(size, start + size if start < 0 else start)
    return [(x, window(dim, call["step"], [max(0, start)]))]


def selected(call: Call, index: int | None = None) -> Reads:
    x, dim = call.x, call["dim"] % call.x.dim()
    at = (call["index"] if index is None else index) % int(x.shape[dim])
    one = [*x.shape[:dim], 1, *x.shape[dim + 1 :]]
    return [(x, in_turn([window(dim, 1, [at]), mixed(one, [dim], keep=False)]))]


def split(call: Call) -> Reads:
    x, dim = call.x, call["dim"] % call.x.dim()
    parts = call["split_sizes" if "split_sizes" in call.named else "split_size"]
    start = sum(parts[: call.place]) if isinstance(parts, (list, tuple)) else parts * call.place
    return [(x, window(dim, 1, [start]))]


def flipped(call: Call) -> Reads:
    x = call.x
    dims = [d % x.dim() for d in call["dims"]]
    return [(x, in_turn(window(d, -1, [int(x.shape[d]) - 1]) for d in dims))]


def permute(call: Call) -> Reads:
    return [(call.x, permuted(call["dims"]))]


def transpose(call: Call) -> Reads:
    order = list(range(call.x.dim()))
    if len(order) > 1:
        a, b = call.named.get("dim0", 0), call.named.get("dim1", 1)
        order[a], order[b] = order[b], order[a]
    return [(call.x, permuted(order))]


def reshape(call: Call) -> Reads:
    return [(call.x, reshaped(call.x.shape, call.out.shape))]


def squeeze(call: Call) -> Reads:
    x, given = call.x, call.named.get("dim")
    dims = range(x.dim()) if given is None else [given] if isinstance(given, int) else given
    gone = [d for d in dims if x.dim() and x.shape[d] == 1]
    return [(x, mixed(x.shape, gone, keep=False))]


def unsqueeze(call: Call) -> Reads:
    at = call["dim"] % call.out.dim()
    return [(call.x, lambda reach: reach.moved({d: d + (d >= at) for d in reach.dims}))]


def unfold(call: Call) -> Reads:
    x, step = call.x, int(call["step"])
    dim = call["dimension"] % x.dim()

    return [(x, lambda reach: reach.slide(dim, step, x.dim()))]


def cat(call: Call) -> Reads:
    dim = call["dim"] % call.out.dim()
    return [(t, unless(dim)) for t in call["tensors"] if t.dim() == call.out.dim()]


def stack(call: Call) -> Reads:
    at = call["dim"] % call.out.dim()
    return [(t, lambda reach: reach.moved({d: d + (d >= at) for d in reach.dims})) for t in call["tensors"]]
