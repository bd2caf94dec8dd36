"""What every layer does: costs by its closed form, ONNX, the registry, nn.Conv's signature, refusals."""

import inspect
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convfold
from convfold import blocks, layers
from convfold.errors import InvalidArgument, UnknownName
from layers.examples import EXAMPLES, NAMES, Example, closed

LIKE_CONV = [name for name in NAMES if name != "depthwise_separable_transpose"]
TWO = [example for example in EXAMPLES if example.dims == 2]
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_its_closed_form_is_what_cost_counts(example: Example) -> None:
    layer, x = example.build(), example.input(batch=3)
    macs, params = closed(layer, tuple(x.shape[2:]))
    report = convfold.cost(layer, x)
    assert (report.macs, report.params) == (3 * macs, params)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_onnx_runtime_computes_the_same(example: Example, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layer, x = example.build().eval(), example.input()
    path = tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter about itself, and of traced sizes
        torch.onnx.export(layer, (x,), str(path), dynamo=False, opset_version=17)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        y = layer(x)
        truth = example.build(dtype=torch.float64)
        truth.load_state_dict(layer.state_dict())
        exact = truth(x.double())
    # Two evaluations in single precision: no further from the exact value than ten times torch's own error.
    allowed = 10 * max((y - exact).abs().max().item(), torch.finfo(torch.float32).eps * exact.abs().max().item())
    assert (torch.from_numpy(found) - exact).abs().max() <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_the_exporter_by_torch_export_writes_it_too(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    example = next(e for e in TWO if e.name == name)
    layer, x = example.build().eval(), example.input()
    torch.onnx.export(layer, (x,), str(tmp_path / "layer.onnx"), dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert torch.allclose(torch.from_numpy(found), layer(x), atol=1e-5)


def test_the_registry_is_complete() -> None:
    assert layers.names() == NAMES
    for name in NAMES:
        for dims in (1, 2, 3):
            built = next(e for e in EXAMPLES if (e.name, e.dims) == (name, dims)).build()
            assert type(built) is layers.find(name, dims)
            assert type(built).__name__ in layers.__all__


@pytest.mark.parametrize(("name", "near"), [("separable", "depthwise_separable"), ("flatened", "flattened")])
def test_unknown_names_are_answered_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=rf"unknown layer: got '{name}', expected one of .*Did you mean .*{near}"):
        layers.build(name, 2, 3, 4, 3)


def test_dims_that_no_layer_has() -> None:
    sentence = r"the layer gated does not exist in 4 dimensions: got 4, expected one of \[1, 2, 3\]"
    with pytest.raises(InvalidArgument, match=sentence):
        layers.build("gated", 4, 3, 4, 3)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", LIKE_CONV)
def test_signature_is_that_of_nn_conv_and_then_its_own(name: str, dims: int) -> None:
    ours = list(inspect.signature(layers.find(name, dims)).parameters.values())
    torchs = list(inspect.signature(CONVS[dims]).parameters.values())
    expected = {p.name: p.default for p in torchs}
    expected |= {"dilated": {"dilation": 2, "padding": "same"}, "pointwise": {"kernel_size": 1}}.get(name, {})
    assert {p.name: p.default for p in ours[: len(torchs)]} == expected
    assert [p.name for p in ours[: len(torchs)]] == [p.name for p in torchs]
    assert ours[len(torchs)].name == "conv"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[len(torchs) :])
    kernel = 1 if name == "pointwise" else 3
    plain = name in ("full_map",)
    groups = 1 if name == "fire" else 2
    arguments = (8, 8, kernel, 2, 0 if plain else 1, 1, groups, False, "circular", "cpu", torch.float64)
    layer, conv = layers.find(name, dims)(*arguments), CONVS[dims](*arguments)
    for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(layer, attribute) == getattr(conv, attribute)
    assert layer.padding_mode == "circular"
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert (
        layer(torch.randn(2, 8, *(7,) * dims, dtype=torch.float64)).shape
        == conv(torch.randn(2, 8, *(7,) * dims, dtype=torch.float64)).shape
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"groups": 3},
            r"groups must divide in_channels and out_channels: got groups=3 with 8 -> 12 channels, expected one of "
            r"\[1, 2, 4\]\. The nearest legal values are 2 and 4\.",
        ),
        ({"padding_mode": "same"}, "padding_mode is unknown: got 'same', expected 'zeros', 'reflect'"),
        ({"padding": "full"}, "padding is unknown: got 'full', expected 'same', 'valid' or integers"),
        ({"padding": "same", "stride": 2}, r"padding='same' has no meaning with a stride: got stride \(2, 2\)"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size has the wrong length: got \(3, 3, 3\), expected 2 integers"),
        ({"kernel_size": 0}, "kernel_size is too small: got 0, expected at least 1 each"),
        ({"stride": 1.5}, "stride is neither an integer nor a tuple of integers: got 1.5, expected 2 integers"),
        ({"padding": -1}, "padding is too small: got -1, expected at least 0 each"),
        ({"wdith": 3}, "got an unexpected keyword argument 'wdith'"),
    ],
)
@pytest.mark.parametrize("name", LIKE_CONV)
def test_arguments_that_fit_no_convolution(name: str, arguments: dict[str, Any], sentence: str) -> None:
    whole = {"in_channels": 8, "out_channels": 12, "kernel_size": 1 if name == "pointwise" else 3, **arguments}
    # The signature of pointwise is written out: Python itself refuses an unknown name there.
    error = TypeError if name == "pointwise" and "wdith" in arguments else InvalidArgument
    with pytest.raises(error, match=sentence):
        layers.build(name, 2, **whole)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_fresh_layer_spreads_as_a_fresh_convolution(example: Example) -> None:
    """Many channels, no border: the variance of the outputs is that of nn.Conv, or nn.ConvTranspose."""
    torch.manual_seed(0)
    dims, own = example.dims, dict(example.arguments)
    given = {key: value for key, value in own.items() if key in ("stride", "groups", "output_padding")}
    own = {key: value for key, value in own.items() if key not in ("mid_channels", "squeeze", "pointwise", "padding")}
    if example.name == "depthwise_separable_transpose":
        own["pointwise"] = dict(example.arguments).get("pointwise", "last")
    own |= {"mid_channels": 32} if example.name in ("bottleneck", "spatially_separable") else {}
    transposed = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    # A reduction to few channels is a random number of its own: here each is wide.
    kernel = {"pointwise": 1, "full_map": 4}.get(example.name, 3)
    size = {1: 64, 2: 16, 3: 7}[dims] if example.name != "full_map" else 4
    plain = transposed if example.name == "depthwise_separable_transpose" else CONVS
    own["padding"] = given["padding"] = 0
    own["bias"] = given["bias"] = False

    def variance(make: Any) -> float:
        found = []
        for _ in range(6):
            x = torch.randn(8, 32, *(size,) * dims)
            found.append(make()(x).detach().square().mean().item())
        return sum(found) / len(found)

    ratio = variance(lambda: layers.build(example.name, dims, 32, 64, kernel, **own)) / variance(
        lambda: plain[dims](32, 64, kernel, **given)
    )
    # Gates and ReLUs of fire: see their docstrings.
    low, high = {"gated": (0.3, 1.5), "fire": (1.0, 8.0)}.get(example.name, (0.8, 1.25))
    assert low < ratio < high


@pytest.mark.parametrize("name", ["bottleneck", "depthwise_separable", "flattened", "shuffle", "spatially_separable"])
def test_the_folder_leaves_it_alone_and_fold_gives_the_one_convolution(name: str) -> None:
    """In a network too: what is cheap as it is stays, and the batch normalisation after it goes into its last part."""
    groups = 4 if name == "shuffle" else 1
    layer = layers.build(name, 2, 16, 16, 3, padding=1, groups=groups, bias=False)
    model = nn.Sequential(layer, nn.BatchNorm2d(16), nn.ReLU()).eval()
    x = torch.randn(2, 16, 12, 12)
    before, plain = convfold.cost(model, x), convfold.fold(model, x)
    after = convfold.cost(plain, x)
    assert convfold.verify(model, plain, x)
    assert after.macs == before.macs
    # A shuffle stands between the convolution and the batch normalisation.
    assert after.operators == before.operators - (name != "shuffle")
    assert convfold.cost(layer.fold(), x[:1]).macs == 16 * 16 * 9 * 144 > before.macs // 2


def test_layers_are_no_blocks_and_expand_goes_where_there_is_no_equation() -> None:
    """A layer that is its equation stays as it is; under a gate the convolution gets a block and gives it back."""
    layer = layers.GatedConv2d(4, 6, 3, padding=1).eval()
    assert not isinstance(layer, blocks.Block)
    x = torch.randn(2, 4, 8, 8)
    model = nn.Sequential(layers.DepthwiseSeparableConv2d(4, 4, 3, padding=1), layer).eval()
    wide = convfold.expand(model, "acnet", example_inputs=x)
    assert isinstance(wide[1].conv, blocks.ACNetConv2d)
    assert [type(m) for m in wide[0].children()] == [nn.Conv2d, nn.Conv2d]
    assert torch.allclose(wide(x), model(x), atol=1e-5)
    assert type(convfold.fold(wide[1], x).conv) is nn.Conv2d


def test_names_for_the_convolutions_inside_are_those_of_blocks_and_layers() -> None:
    torch.manual_seed(0)
    for conv in (("dbb", "flattened"), ("bottleneck", "acnet"), "spatially_separable", ("fire",)):
        x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
        for name in ("depthwise_separable", "fire") if conv != ("fire",) else ("dilated",):
            layer = layers.build(name, 2, 8, 16, 3, padding=1, dilation=1, conv=conv, dtype=torch.float64).eval()
            assert torch.allclose(convfold.fold(layer, x)(x), layer(x))
    # A name that both have is the block's, as in blocks.
    assert isinstance(layer.conv, blocks.FireConv2d)
    sentence = r"unknown block or layer: got 'flat', expected one of \['acnet', 'bottleneck', .*Did you mean flattened"
    with pytest.raises(UnknownName, match=sentence):
        layers.ShuffleConv2d(4, 4, 3, conv="flat")


def test_receptive_field() -> None:
    assert layers.DepthwiseSeparableConv3d(4, 4, (3, 5, 1), dilation=(1, 2, 3)).receptive_field == (3, 9, 1)
    assert math.prod(layers.GatedConv2d(4, 4, 3, dilation=4).receptive_field) == 81
