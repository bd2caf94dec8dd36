"""FLOPs: two for each multiply-accumulate, and one documented rule for each kind of other work."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cost import cost
from convfold.studies.bench.counters.cases import Calls

X = torch.rand(2, 4, 6, 6)
N = 2 * 4 * 6 * 6
HALF = 2 * 4 * 3 * 3


RULES = {
    "elementwise": (lambda x: x + x, N),
    "a number": (lambda x: x * 3, N),
    "broadcast": (lambda x: x[:1] * x[:, :, :1], N),
    "activation": (torch.relu, N),
    "activation in place": (lambda x: F.hardswish((x + 0).sigmoid_(), inplace=True), 3 * N),
    "gelu": (F.gelu, N),
    "addcmul": (lambda x: torch.addcmul(x, x, x), 2 * N),
    "lerp": (lambda x: torch.lerp(x, x, 0.5), 3 * N),
    "softmax": (lambda x: x.softmax(1), 5 * N),
    "log-softmax": (lambda x: x.log_softmax(1), 5 * N),
    "sum": (lambda x: x.sum(1), N),
    "mean": (lambda x: x.mean((2, 3)), N),
    "maximum": (lambda x: x.amax(1), N),
    "variance": (lambda x: x.var((2, 3)), 4 * N),
    "average pooling": (lambda x: F.avg_pool2d(x, 2), HALF * 4),
    "overlapping average pooling": (lambda x: F.avg_pool2d(x, 3, 2, 1), HALF * 9),
    "max pooling": (lambda x: F.max_pool2d(x, 2), HALF * 4),
    "max pooling in 1-D": (lambda x: F.max_pool1d(x[0], 3), 4 * 6 * 2 * 3),
    # Windows of six in four: 0-2 1-3 3-5 4-6, eight elements along each axis.
    "adaptive pooling": (lambda x: F.adaptive_avg_pool2d(x, 4), 2 * 4 * 8 * 8),
    "adaptive max pooling": (lambda x: F.adaptive_max_pool2d(x, 4), 2 * 4 * 8 * 8),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 0),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 4 * N * 7),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), 4 * N * 31),
    # Halved: windows of four along each axis; first across, at full height, then down.
    "bilinear against aliasing": (
        lambda x: F.interpolate(x, size=3, mode="bilinear", antialias=True),
        2 * HALF * 7 + HALF * 7,
    ),
    "grid_sample": (lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False), N * 7),
    "layer norm": (lambda x: F.layer_norm(x, (6, 6)), 5 * N),
    "group norm": (lambda x: F.group_norm(x, 2, x[0, :, 0, 0], x[0, :, 0, 0]), 7 * N),
    "batch norm": (lambda x: F.batch_norm(x, x[0, :, 0, 0], x[0, :, 0, 1]), 2 * N),
    "batch norm of a batch": (lambda x: F.batch_norm(x, None, None, training=True), 5 * N),
    "moving": (lambda x: torch.cat([x, x]).flip(0).roll(1).permute(1, 0, 2, 3).contiguous(), 0),
    "choosing": (lambda x: x[:, torch.zeros(3, dtype=torch.long)], 0),
    "sorting": (lambda x: x.sort(2), 3 * N),
    "distances": (lambda x: torch.cdist(x[0, 0], x[0, 1]), 3 * 6 * 6 * 6),
    "losses": (lambda x: F.mse_loss(x, x), 3 * N),
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x),
        # On meta tensors its parts are seen: query and key scaled, softmax.
        2 * (2 * 2 * 4 * 6 * 6 * 6) + 2 * N + 5 * N,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name):
    function, flops = RULES[name]
    report = cost(Calls(function), X)
    assert report.real_run == ""
    assert report.flops == flops


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("build", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolution_is_two_for_each_product_and_its_bias(build, bias):
    report = cost(build(4, 8, 3, padding=1, bias=bias), X)
    assert report.flops == 2 * (2 * 36 * 8 * 4 * 9) + bias * 2 * N


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_two_for_each_product_and_its_bias(bias):
    assert cost(nn.Linear(6, 5, bias=bias), X).flops == 2 * (48 * 6 * 5) + bias * 48 * 5


def test_embedding_bag_adds_what_it_looks_up():
    assert cost(nn.EmbeddingBag(7, 4), torch.zeros(2, 5, dtype=torch.long)).flops == 2 * 5 * 4


def test_accumulating_writes_add_what_they_write():
    def scatter(x):
        index = torch.zeros(2, dtype=torch.long, device=x.device)
        return torch.zeros(3, 4, 6, 6, device=x.device).index_add(0, index, x)

    assert cost(Calls(scatter), X).flops == N


def test_a_fused_lstm_counts_as_its_parts():
    class Read(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.layer = nn.LSTM(3, 4, bias=bias)

        def forward(self, x):
            assert x.isfinite().all()
            return self.layer(x)

    x = torch.rand(5, 2, 3)
    for bias in (True, False):
        fused, parts = cost(Read(bias), x), cost(nn.LSTM(3, 4, bias=bias), x)
        products = 2 * 10 * 4 * 4 * (3 + 4)
        # The finite check is made of elementwise work and a reduction, and belongs to the reader.
        assert next(row.flops for row in fused.rows if row.path == "layer") == products + (21 if bias else 13) * 10 * 4
        assert parts.flops == products + (21 if bias else 13) * 10 * 4


def test_rows_add_up():
    report = cost(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)), X)
    assert report.flops == sum(row.flops for row in report.rows)
    assert [row.flops for row in report.rows] == [
        2 * (2 * 16 * 8 * 4 * 9) + 2 * 16 * 8,
        2 * (2 * 16 * 8),
        2 * 16 * 8,
        2 * (2 * 128 * 3) + 2 * 3,
    ]
