"""Every block as a drop-in: on real networks, the same function where promised; folded back and verified."""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.errors import InvalidArgument
from transform.networks import NETWORKS, lively, noise

pytestmark = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("torchvision") is None, reason="the extra [zoo] is not installed"
)

EXACT: dict[str, dict[str, Any]] = {
    "acnet": {},
    "dbb": {},
    "dilated": {"branches": ((2, 1), (2, 2))},
    "doconv": {},
    "ecb": {},
    "expandnet": {"expansion": 2},
    "mobileone": {"branches": 2},
    "orepa": {},
    "qarepvgg": {"pool": True},
    "repvgg": {},
}
NEW: dict[str, dict[str, Any]] = {
    "fire": {},
    "mixconv": {"kernel_sizes": (1, 3)},
    "psconv": {"parts": 2},
    "repmlp": {"height": 4, "width": 4, "groups": 2},
}


def chosen(paths: list[str]) -> Callable[[str, nn.Module], bool]:
    return lambda name, module: name in paths


def suits(name: str, layer: Any) -> bool:
    """Whether the class of the block holds this layer's kernel, or, for a new function, its channels."""
    square = layer.kernel_size[0] == layer.kernel_size[1] >= 3
    return {
        "dilated": square,
        "ecb": layer.kernel_size == (3, 3),
        "fire": layer.groups == 1,
        "mixconv": layer.kernel_size == (3, 3) and layer.groups in (1, layer.in_channels) and layer.in_channels > 1,
        "psconv": layer.in_channels % (2 * layer.groups) == 0 == layer.out_channels % (2 * layer.groups),
    }.get(name, True)


def made(name: str) -> tuple[Any, Tensor, list[str], str]:
    torch.manual_seed(0)
    make, x, paths, partition = NETWORKS[name]
    return lively(make(), x), x, paths, partition


def relative(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def sensitive(wide: nn.Module, path: str, x: Tensor) -> bool:
    """Whether a change of one weight in a thousand parts, in the block at `path`, would have been seen."""
    other = copy.deepcopy(wide)
    with torch.no_grad():
        for parameter in other.get_submodule(path).parameters():
            parameter.mul_(1.001)
    return relative(other(x), wide(x)) > 1e-7


def step(model: nn.Module, x: Tensor) -> None:
    """One step of training moves every weight there is."""
    model.train()
    y = model(x)
    (y * noise(*y.shape, seed=5)).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    model.eval()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", EXACT)
def test_the_function_stays_and_folds_back(name: str, network: str) -> None:
    model, x, paths, _ = made(network)
    paths = [path for path in paths if suits(name, model.get_submodule(path))]
    before = copy.deepcopy(model.state_dict())
    wide = convfold.expand(model, name, chosen(paths), example_inputs=x, **EXACT[name])
    taken = [path for path in paths if type(wide.get_submodule(path)) is blocks.find(name, 2)]
    assert taken == paths
    assert taken
    with torch.no_grad():
        assert relative(wide(x), model(x)) <= 1e-12
        assert sensitive(wide, paths[0], x)
        decided = convfold.plan_expansion(model, name, chosen(paths), example_inputs=x, **EXACT[name])
        promised = all(c.reason == "same function" for c in decided.choices)
        # torchvision's networks have a norm of torch's own after each convolution, which the blocks take in.
        assert promised or network not in ("resnet18", "mobilenet_v2") or name == "qarepvgg"
        if promised:
            assert relative(copy.deepcopy(wide).train()(x), copy.deepcopy(model).train()(x)) <= 1e-9
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    step(wide, x)
    plain = convfold.fold(wide, x)
    assert [type(plain.get_submodule(path)) for path in paths] == [nn.Conv2d] * len(paths)
    assert convfold.verify(wide, plain, x)
    with torch.no_grad():
        assert relative(plain(x), wide(x)) <= 1e-12
    # Shipped it costs what the original costs when folded.
    costs = [convfold.cost(m, x) for m in (plain, convfold.fold(model, x))]
    assert costs[0].macs == costs[1].macs
    assert costs[0].convolutions == costs[1].convolutions


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NEW)
def test_a_class_without_the_kernel_gives_a_new_function_only_when_asked(name: str, network: str) -> None:
    model, x, paths, partition = made(network)
    paths = [partition] if name == "repmlp" else [p for p in paths if suits(name, model.get_submodule(p))]
    assert paths
    sentence = rf"no layer can become {name}: got .*it cannot start from a given kernel"
    with pytest.raises(InvalidArgument, match=sentence):
        convfold.expand(model, name, chosen(paths), example_inputs=x, **NEW[name])
    decided = convfold.plan_expansion(model, name, chosen(paths), example_inputs=x, exact=False, **NEW[name])
    assert str(decided).count("a new function") == len(paths)
    wide = decided.apply()
    cls = blocks.find(name, 2)
    assert [type(wide.get_submodule(path)) for path in paths] == [cls] * len(paths)
    assert {p.dtype for p in wide.parameters()} == {torch.float64}
    with torch.no_grad():
        assert relative(wide(x), model(x)) > 1e-2
    step(wide, x)
    plain = convfold.fold(wide, x)
    with torch.no_grad():
        assert relative(plain(x), wide(x)) <= 1e-12
    assert convfold.verify(wide, plain, x)
    costs = convfold.cost(wide, x), convfold.cost(plain, x)
    assert costs[1].macs <= costs[0].macs
    assert costs[1].convolutions <= costs[0].convolutions
    assert costs[1].operators <= costs[0].operators
    # By modules: where one kernel would cost more the block stays; repmlp keeps its gate and loses its local part.
    points = [getattr(model.get_submodule(path), "kernel_size", ()) == (1, 1) and name != "repmlp" for path in paths]
    left = [nn.Conv2d if point else cls for point in points]
    assert [type(convfold.fold(wide).get_submodule(path)) for path in paths] == left
    if name == "repmlp":
        assert convfold.cost(plain, x).macs < convfold.cost(wide, x).macs


def test_a_whole_network_by_rules() -> None:
    """Every convolution of MobileNetV2 becomes the block that suits it, and all fold back."""
    model, x, _, _ = made("mobilenet_v2")
    wide = convfold.expand(model, "dbb", "features.0.0", example_inputs=x)
    wide = convfold.expand(wide, "mobileone", lambda _, m: getattr(m, "groups", 1) > 1, example_inputs=x, branches=2)
    wide = convfold.expand(wide, "repvgg", lambda _, m: not isinstance(m, nn.Linear), example_inputs=x)
    found = [m for m in wide.modules() if isinstance(m, blocks.Block)]
    assert len(found) == sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 12
    with torch.no_grad():
        assert relative(wide(x), model(x)) <= 1e-12
    plain = convfold.fold(wide, x)
    assert not any(isinstance(m, (blocks.Block, nn.BatchNorm2d)) for m in plain.modules())
    assert convfold.verify(model, plain, x)


@pytest.mark.parametrize("layer", [
    nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 4, 3, padding="same", dilation=2),
    nn.Conv2d(8, 8, 5, padding=2, stride=2), nn.Conv2d(8, 8, (3, 1), padding="valid"),
])  # fmt: skip
def test_psconv_in_place_of_a_layer_keeps_its_maps(layer: nn.Conv2d) -> None:
    x = noise(1, 8, 13, 14).float()
    wide = convfold.expand(nn.Sequential(layer), "psconv", exact=False, parts=2)
    assert wide(x).shape == layer(x).shape
    assert wide[0].dilation == tuple(2 * d for d in layer.dilation)


def test_layers_that_a_new_function_cannot_stand_for_say_why() -> None:
    sentence = (
        r"psconv pads each part by its dilation, which gives a larger map than this layer does: got Conv2d\(8, 8.*"
    )
    with pytest.raises(InvalidArgument, match=sentence + r"expected padding of at least \(dilation - 1\)"):
        convfold.expand(nn.Sequential(nn.Conv2d(8, 8, 3, dilation=2)), "psconv", exact=False)
    dilated = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2))
    with pytest.raises(InvalidArgument, match=r'variant="shape" has no dilation'):
        convfold.expand(dilated, "psconv", exact=False, variant="shape")
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1))
    with pytest.raises(InvalidArgument, match=r"RepMLP2d: repmlp needs the partition: .*expected height=, width= that"):
        convfold.expand(model, "repmlp", exact=False)
    for layer in (nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, padding=1, stride=2)):
        with pytest.raises(InvalidArgument, match=r"RepMLP2d: repmlp keeps the size of the map: got Conv2d\(8, 8"):
            convfold.expand(nn.Sequential(layer), "repmlp", exact=False, height=2, width=2)
    wide = convfold.expand(model, "repmlp", exact=False, height=3, width=4)
    with pytest.raises(InvalidArgument, match="the partition does not divide the map: got a map of 8 x 8"):
        wide(torch.zeros(1, 8, 8, 8))
