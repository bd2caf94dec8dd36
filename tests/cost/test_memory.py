"""Activation bytes, peak and traffic by hand, on meta tensors and on real ones."""

import gc
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from convfold.cost.memory.observer import MemoryObserver
from convfold.cost.memory.traffic import tensor_bytes
from convfold.errors import InvalidArgument


class Watch(TorchDispatchMode):
    """Shows each operator to the observer, and nothing more."""

    def __init__(self, observer):
        super().__init__()
        self.observer = observer

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.observer.see(func, args, kwargs or {}, out, "here")
        return out


def watched(function, *inputs, observer=None):
    observer = observer or MemoryObserver()
    gc.disable()  # what reference counting frees is freed at once, or not at all
    try:
        with torch.no_grad(), Watch(observer):
            function(*inputs)
    finally:
        gc.enable()
    return observer


@pytest.fixture(params=["meta", "cpu"])
def x(request):
    return torch.ones(2, 3, 4, 4, device=request.param)


SIZE = 2 * 3 * 4 * 4 * 4  # bytes of x


def chain(x):
    y = x + 1
    y = y.exp()
    return y.sin()


def kept(x):
    y = x + 1
    z = y.exp()
    return y + z


def views(x):
    y = x + 1
    return y.view(-1).reshape(6, 16).t()[1:].unsqueeze(0), y.chunk(2)


def in_place(x):
    return (x + 1).relu_().add_(2)


def freed_early(x):
    y = torch.cat([x, x])
    z = y[:1].exp()
    del y
    return z + 1, x + 1, x + 2


@pytest.mark.parametrize(
    ("function", "made", "peak", "moved"),
    [
        (chain, 3, 2, 6),
        (kept, 3, 3, 2 + 2 + 3),
        (views, 1, 1, 2),
        (in_place, 1, 1, 2 + 2 + 2),
        # Twice x; half of that; then one half and two wholes. An operand given twice is read once.
        (freed_early, 2 + 0.5 + 0.5 + 2, 3, 3 + 1 + 1 + 2 + 2),
    ],
    ids=["chain", "kept", "views", "in place", "freed early"],
)
def test_laws(function, made, peak, moved, x):
    observer = watched(function, x)
    assert observer.activation_bytes == made * SIZE
    assert observer.peak_bytes == peak * SIZE
    assert observer.traffic_bytes == moved * SIZE
    assert observer.live_bytes == 0
    assert observer.activation_by_module == {"here": made * SIZE}
    assert observer.traffic_by_module["here"] == moved * SIZE


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        (lambda x: x.expand(5, 2, 3, 4, 4) + 1, SIZE + 5 * SIZE),
        (lambda x: x * x, 2 * SIZE),
        (lambda x: torch.zeros_like(x), SIZE),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: torch.empty_like(x).copy_(x), 2 * SIZE),
        (lambda x: torch.empty_like(x).fill_(1), SIZE),
        (lambda x: torch.add(x, x[:1], out=torch.empty_like(x)), SIZE + SIZE // 2 + SIZE),
        (lambda x: x.clone(), 2 * SIZE),
        (lambda x: x.double(), 3 * SIZE),
        (lambda x: F.max_pool2d(x, 2), SIZE + SIZE // 4 + SIZE // 2),  # int64 indices too
        (lambda x: F.embedding(torch.zeros(3, dtype=torch.long, device=x.device), x.view(24, 4)), 24 + 24 + 48 + 48),
        (lambda x: x.sum(), SIZE + 4),
        (lambda x: F.conv2d(x, x[:, :, :3, :3]), SIZE + 2 * 3 * 9 * 4 + 2 * 2 * 4 * 4),
    ],
    ids=[
        "broadcast",
        "twice",
        "zeros_like",
        "empty",
        "copy_",
        "fill_",
        "out",
        "clone",
        "cast",
        "pool",
        "lookup",
        "sum",
        "conv",
    ],
)
def test_traffic(function, moved, x):
    assert watched(function, x).traffic_bytes == moved


def test_statistics_that_a_batch_norm_writes_are_traffic(x):
    norm = nn.BatchNorm2d(3).to(x.device)
    reads = SIZE + 4 * 12
    writes = SIZE + 2 * 12
    evaluated = watched(norm.eval(), x).traffic_bytes
    assert reads + SIZE <= evaluated <= reads + writes
    in_train = watched(norm.train(), x).traffic_bytes - 2 * 8  # the number of batches, read and written
    assert in_train >= evaluated


def test_expanded_bytes():
    assert tensor_bytes(torch.ones(3, 1).expand(3, 5)) == 12
    assert tensor_bytes(torch.ones(0, 4)) == 0
    assert tensor_bytes(torch.ones(3, 5, dtype=torch.float16).t()) == 30


def test_a_storage_that_grows_is_followed(x):
    def grow(x):
        out = torch.empty(0, device=x.device)
        torch.add(x, 1, out=out)
        observed.append(observer.live_bytes)
        out.resize_(1000)
        observed.append(observer.live_bytes)

    observed, observer = [], MemoryObserver()
    watched(grow, x, observer=observer)
    assert observed == [SIZE, 4000]
    assert (observer.peak_bytes, observer.live_bytes, observer.activation_bytes) == (4000, 0, 4000)


def test_constants_made_on_the_way_count():
    observer = watched(lambda: torch.tensor([1.0, 2.0, 3.0]) + 1)
    assert observer.activation_bytes == 24


def test_what_was_there_before_does_not_count(x):
    layer = nn.Linear(4, 4).to(x.device)
    observer = watched(layer, x)
    assert observer.peak_bytes == observer.activation_bytes == SIZE


def test_rounding_and_workspace():
    x = torch.ones(3)
    observer = MemoryObserver(rounding=512, workspace=lambda func, args, kwargs, out: 100)
    watched(lambda x: (x + 1) + 2, x, observer=observer)
    assert (observer.peak_bytes, observer.activation_bytes) == (2 * 512 + 100, 2 * 512)
    assert observer.peak_at == "here"
    with pytest.raises(InvalidArgument, match="rounded up to a multiple of bytes: got 0, expected at least 1"):
        MemoryObserver(rounding=0)


def test_devices_differ_in_what_their_allocators_add():
    x = torch.ones(1, 8, 9, 9, dtype=torch.float64)
    conv = nn.Conv2d(8, 4, 3).double()
    out = 4 * 49 * 8
    made = {
        device: watched(conv, x, observer=MemoryObserver.on(device)).peak_bytes for device in ("cpu", "cuda", "mps")
    }
    assert made == {"cpu": out + 8 * 9 * 49 * 8, "cuda": -(-out // 512) * 512, "mps": out}


def test_a_sparse_tensor_does_not_stop_it():
    sparse = torch.eye(3).to_sparse()
    observer = watched(lambda s: torch.sparse.mm(s, torch.ones(3, 2)), sparse)
    assert observer.peak_bytes > 0


def test_an_observer_that_is_gone_is_not_missed(x):
    observer = MemoryObserver()
    with Watch(observer) as mode:
        y = x + 1
    del observer, mode.observer
    del y


def test_watching_is_cheap():
    model = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(200))).to("meta")
    x = torch.empty(1, 8, 4096, 4096, device="meta")
    started = time.process_time()
    observer = watched(model, x)
    assert time.process_time() - started < 1
    assert observer.peak_bytes == 2 * 4 * 8 * 4096**2
