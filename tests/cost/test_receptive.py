"""Receptive fields by the law, on known networks, and where they have to be given up."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.algebra import hollow
from convfold.cost.counting.counter import OperatorCounter
from convfold.cost.receptive.observer import ReceptiveObserver
from convfold.graph.inputs import example_inputs
from convfold.zoo import load_model


class Calls(nn.Module):
    def __init__(self, function, *layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs):
        return self.function(*self.layers, *inputs)


def followed(model, *inputs):
    given = example_inputs(model, tuple(torch.empty_like(x, device="meta") for x in inputs))
    empty, observer = hollow(model).eval(), ReceptiveObserver(given)
    with torch.no_grad(), OperatorCounter(empty, given, meta=True, observers=(observer,)):
        out = given.call(empty)
    return observer, out


def field(model, *inputs):
    observer, out = followed(model, *inputs)
    return observer.of(out)


IMAGE = torch.empty(1, 4, 64, 48)


def test_the_law_along_a_chain():
    layers, size, jump = [], 1, 1
    for kernel, stride, dilation in [(3, 2, 1), (5, 1, 2), (2, 2, 1), (3, 1, 3), (1, 3, 1)]:
        layers.append(nn.Conv2d(4, 4, kernel, stride, dilation=dilation))
        size, jump = size + (kernel - 1) * dilation * jump, jump * stride
        observer, _ = followed(nn.Sequential(*layers), torch.empty(1, 4, 128, 128))
        (span, other) = observer.by_module[str(len(layers) - 1)].spans
        assert span == other
        assert (span.size, span.jump, span.start, span.whole) == (size, jump, 0, False)


def test_axes_are_told_apart():
    told = field(nn.Conv2d(4, 4, (1, 5), (2, 1), (0, 2)), IMAGE)
    assert told.sizes == (1, 5)
    assert [span.jump for span in told.spans] == [2, 1]
    assert [span.start for span in told.spans] == [0, -2]


def test_branches_read_the_hull_with_their_offsets():
    left, right = nn.Conv2d(4, 4, 3, padding=(4, 4)), nn.Conv2d(4, 4, 3, padding=(0, 0))
    crop = Calls(lambda a, b, x: F.pad(a(x), (-4, -4, -4, -4)) + b(x), left, right)
    assert field(crop, IMAGE).sizes == (3, 3)
    shifted = Calls(lambda a, b, x: a(x)[..., :-8, :-8] + b(x), left, right)
    assert field(shifted, IMAGE).sizes == (7, 7)


@pytest.mark.parametrize(
    ("layer", "sizes", "jump"),
    [
        (nn.ConvTranspose2d(4, 4, 2, 2), (1, 1), Fraction(1, 2)),
        (nn.ConvTranspose2d(4, 4, 4, 2, 1), (2, 2), Fraction(1, 2)),
        (nn.Upsample(scale_factor=2), (1, 1), Fraction(1, 2)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (2, 2), Fraction(1, 2)),
        (nn.Upsample(scale_factor=2, mode="bicubic"), (4, 4), Fraction(1, 2)),
        (nn.PixelShuffle(2), (1, 1), Fraction(1, 2)),
        (nn.PixelUnshuffle(2), (2, 2), 2),
        (nn.AdaptiveAvgPool2d((16, 12)), (4, 4), 4),
        (nn.MaxPool2d(3, 2, 1), (3, 3), 2),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (3, 3), 2),
        (nn.ReflectionPad2d(3), (1, 1), 1),
        (nn.ChannelShuffle(2), (1, 1), 1),
        (nn.BatchNorm2d(4), (1, 1), 1),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2)), (2, 2), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_single_layers(layer, sizes, jump):
    told = field(nn.Sequential(layer, nn.Conv2d(layer(IMAGE).shape[1], 4, 1)), IMAGE)
    assert told.sizes == sizes
    assert {span.jump for span in told.spans} == {jump}
    assert told.reason == ""


def shuffled_by_hand(conv, x):
    n, c, h, w = x.shape
    return conv(x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w))


def focus(conv, x):
    return conv(torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1))


def windows(conv, x):
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    parts = parts @ parts.transpose(1, 2) @ parts
    back = parts.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
    return conv(back[..., ::4, ::4])


def channels_last(conv, x):
    tokens = conv(x).permute(0, 2, 3, 1)
    return F.linear(tokens, tokens.new_ones(4, 4)).permute(0, 3, 1, 2)


def sequence(conv, x):
    tokens = conv(x).flatten(2).transpose(1, 2)
    return F.layer_norm(tokens, (4,)).transpose(1, 2).unflatten(2, (62, 46))


def there_and_back(conv, x):
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c) * 2
    return conv(parts.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w))


def space_to_batch(conv, x):
    """Two convolutions of dilation 2: each of four phases is an image of the batch."""
    n, c, h, w = x.shape
    phases = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(4 * n, c, h // 2, w // 2)
    return conv(conv(phases))


def unfolded(conv, x):
    return (x.unfold(2, 3, 1).unfold(3, 3, 1) * 2).sum((4, 5))


@pytest.mark.parametrize(
    ("function", "conv", "sizes"),
    [
        (shuffled_by_hand, nn.Conv2d(1, 4, 3), (2, 2)),
        (focus, nn.Conv2d(16, 4, 3), (6, 6)),
        (windows, nn.Conv2d(4, 4, 2), (8, 8)),
        (channels_last, nn.Conv2d(4, 4, 3), (3, 3)),
        (sequence, nn.Conv2d(4, 4, 3), (3, 3)),
        (there_and_back, nn.Conv2d(4, 4, 3), (3, 3)),
        (space_to_batch, nn.Conv2d(4, 4, 3), (9, 9)),
        (unfolded, nn.Identity(), (3, 3)),
    ],
    ids=["pixel shuffle", "focus", "windows", "channels last", "tokens", "there and back", "space to batch", "unfold"],
)
def test_dimensions_may_be_moved_and_merged(function, conv, sizes):
    told = field(Calls(function, conv), IMAGE)
    assert (told.sizes, told.reason) == (sizes, "")


@pytest.mark.parametrize(
    "function",
    [
        lambda conv, x: conv(x).mean((2, 3)),
        lambda conv, x: F.adaptive_avg_pool2d(conv(x), 1),
        lambda conv, x: x * conv(x.mean((2, 3), keepdim=True)).sigmoid(),
        lambda conv, x: conv(x).flatten(1) @ x.new_ones(4 * 62 * 46, 2) if x.shape[2] == 66 else conv(x).sum(),
        lambda conv, x: conv(x).flatten(2).softmax(-1),
        lambda conv, x: F.group_norm(conv(x), 2),
        lambda conv, x: F.conv2d(x, conv(x)[:, :, :2, :2].mean((2, 3), keepdim=True).expand(4, 4, 1, 1)),
    ],
    ids=["mean", "pool", "squeeze", "linear", "softmax", "group norm", "dynamic"],
)
def test_what_reads_every_position_is_whole(function):
    told = field(Calls(function, nn.Conv2d(4, 4, 1)), IMAGE)
    assert told.whole
    assert told.sizes == (64, 48)
    assert all(span.jump == 0 for span in told.spans)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda conv, x: conv(x).roll(1, 2), "roll is not known"),
        (lambda conv, x: torch.cat([conv(x), x], 2), "cat moves positions about"),
        (lambda conv, x: conv(x)[:, :, torch.arange(5)], "index is not known"),
        (lambda conv, x: conv(x)[..., ::2, ::2] + x[..., :32, :24], "add joins branches of different strides"),
        (lambda conv, x: F.pad(conv(x), (1, 1, 1, 1), mode="circular"), "a tensor is written in pieces"),
    ],
    ids=["roll", "cat", "index", "strides", "circular"],
)
def test_what_is_not_understood_is_whole_and_says_so(function, reason):
    observer, out = followed(Calls(function, nn.Conv2d(4, 4, 1)), IMAGE)
    told = observer.of(out)
    assert told.reason == reason
    assert told.sizes[0] == (63 if "strides" in reason else 64)  # every second of 64, up to 62
    assert observer.reasons[reason] == ""


def test_writing_into_channels_and_in_place():
    def written(conv, x):
        out = torch.zeros_like(x)
        out[:, :2] = conv(x)[:, :2]
        out[:, 2:] = x[:, 2:]
        return out.relu_().add_(1)

    assert field(Calls(written, nn.Conv2d(4, 4, 3, padding=1)), IMAGE).sizes == (3, 3)


def test_several_inputs_and_none():
    both = Calls(lambda a, b, x, y: a(x) + b(y), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2))
    observer, out = followed(both, IMAGE, IMAGE)
    assert (observer.of(out).input, observer.of(out).sizes) == ("input 0", (3, 3))
    positions = observer.positions(out, (0, 0, 10, 10))
    assert positions["input 1", 2] == (8, 12)
    assert field(Calls(lambda x: x.new_ones(1, 1, 3, 3)), IMAGE).sizes == ()
    assert field(nn.Linear(5, 3), torch.empty(2, 5)).sizes == ()


def test_unbatched_and_other_dimensions():
    assert field(nn.Conv2d(4, 4, 3), torch.empty(4, 9, 9)).sizes == (3, 3)
    assert field(nn.Sequential(nn.Conv1d(4, 4, 3), nn.MaxPool1d(2)), torch.empty(1, 4, 20)).sizes == (4,)
    assert field(nn.Conv3d(4, 4, (3, 1, 5)), torch.empty(1, 4, 9, 9, 9)).sizes == (3, 1, 5)


@pytest.mark.parametrize(
    ("name", "module", "size"),
    [
        # The known ones: Araujo et al., table of receptive fields, for the same strides.
        ("torchvision:alexnet", "features.12", 195),
        ("torchvision:vgg16", "features.30", 212),
        ("torchvision:resnet18", "layer4.1", 435),
        ("torchvision:resnet50", "layer4.2", 427),
        ("torchvision:mobilenet_v2", "features.18.0", 491),
    ],
)
def test_known_networks(name, module, size):
    with torch.device("meta"):
        model = load_model(name)
    observer, out = followed(model, torch.empty(1, 3, 224, 224))
    assert observer.by_module[module].sizes == (size, size)
    assert observer.of(out).whole
    assert not observer.reasons
