"""Every form in closed form against a count of modules that have it: figure by figure, in one to three axes."""

import pytest
import torch
from torch import nn

from convfold.cost import cost
from convfold.cost.forms import FORMS, Spec, read_spec, variant
from convfold.cost.what_if.variants import layer_table
from convfold.errors import InvalidArgument
from convfold.geometry import Axis, closed
from cost_surface.modules import built, random_layer

FORMS_TRIED = (
    "convolution", "grouped:2", "depthwise", "depthwise:2", "pointwise", "separable", "separable:3", "flattened",
    "spatial:2", "rank:2", "tucker:1,2", "cp:3", "bottleneck:2", "shuffle:2", "gated", "transposed", "full-map",
    "fully-connected", "self-attention", "restricted-attention",
)  # fmt: skip
CLOSED = {
    "convolution": lambda layer: closed.convolution(layer),
    "depthwise": closed.depthwise,
    "pointwise": closed.pointwise,
    "separable": closed.separable,
    "flattened": closed.flattened,
    "spatial": closed.spatial,
    "rank": closed.low_rank,
    "tucker": closed.tucker,
    "cp": closed.cp,
    "shuffle": closed.shuffled,
    "transposed": closed.transposed,
    "full-map": closed.full_map,
    "fully-connected": closed.fully_connected,
    "self-attention": closed.attention,
    "restricted-attention": closed.restricted_attention,
}
# Modules that a form is of have groups of their own, or none.
UNGROUPED = ("depthwise", "separable", "full-map", "self-attention", "restricted-attention", "fully-connected")


def tried(form: str, seed: int):
    """A random layer in the form; None where it cannot have it."""
    spec = read_spec(form)
    layer = random_layer(seed)
    if spec.name == "depthwise" and not spec.numbers:
        spec = Spec("depthwise", (1,))
    try:
        return layer, spec, variant(layer, spec)
    except InvalidArgument:
        return None


@pytest.mark.parametrize("form", FORMS_TRIED)
def test_every_figure_is_what_a_count_finds(form: str) -> None:
    met = set()
    for seed in range(36):
        found = tried(form, seed)
        if found is None:
            continue
        layer, spec, one = found
        if spec.name == "bottleneck" and (layer.out_channels // layer.groups) < 2:
            continue
        module = built(layer, spec.name, *spec.numbers)
        x = torch.empty(layer.batch, layer.in_channels, *layer.size, device="meta")
        report = cost(module, x)
        (row,) = layer_table(layer, [spec]).rows
        assert not report.uncounted
        assert report.macs == one.macs, (layer, spec)
        assert report.flops == row.flops, (layer, spec)
        assert report.params == one.weights, (layer, spec)
        padded_queries = "attention" in form and any(a.lo for a in layer.window)
        if not padded_queries:
            # Padding makes the tests' attention copy its queries, which is no part of the form.
            assert report.activation_bytes == row.activation_bytes, (layer, spec)
            assert report.traffic_bytes == row.traffic_bytes, (layer, spec)
        met.add(len(layer.size))
        if spec.name not in ("self-attention", "restricted-attention"):
            assert tuple(module(x).shape) == (layer.batch, one.out_channels, *one.out_size)
    assert met == ({2, 3} if spec_of(form) == "spatial" else {1, 2, 3})


def spec_of(form: str) -> str:
    return form.partition(":")[0]


@pytest.mark.parametrize("form", FORMS_TRIED)
def test_ratios_and_closed_forms_say_the_same_as_the_operators(form: str) -> None:
    tests = 0
    for seed in range(60):
        found = tried(form, seed)
        if found is None:
            continue
        layer, spec, one = found
        whole = closed.convolution(layer).macs
        assert one.ratio * whole == one.macs
        told = CLOSED.get(spec.name)
        if told is not None:
            assert told(layer, *spec.numbers) == (one.macs, one.weights)
        tests += 1
    assert tests > 5


@pytest.mark.parametrize("form", [f for f in FORMS_TRIED if "attention" not in f and f not in ("gated", "transposed")])
def test_receptive_fields_are_those_of_the_modules(form: str) -> None:
    for seed in range(12):
        found = tried(form, seed)
        if found is None:
            continue
        layer, spec, one = found
        x = torch.empty(1, layer.in_channels, *layer.size, device="meta")
        rows = [row for row in cost(built(layer, spec.name, *spec.numbers), x).rows if row.receptive_field]
        if spec.name in ("fully-connected",):
            assert one.reach == layer.size
        else:
            assert rows[-1].receptive_field == one.reach, (layer, spec)


@pytest.mark.parametrize(
    "form",
    ["convolution", "grouped:2", "depthwise:2", "pointwise", "separable", "separable:2", "flattened", "spatial:2",
     "rank:2", "tucker:1,2", "cp:2", "bottleneck:2", "shuffle:2"],
)  # fmt: skip
def test_degrees_of_freedom_are_the_rank_of_the_maps_derivative(form: str) -> None:
    """The dimension of a set of maps is the rank of d(map)/d(weights) at almost any point; so is the kernel's rank."""
    spec = read_spec(form)
    layer = closed.Layer(4, 6, (Axis(3), Axis(3)), (3, 3))
    one = variant(layer, spec)
    torch.manual_seed(0)
    module = built(layer, spec.name, *spec.numbers).to_empty(device="cpu").double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    names, weights = zip(*module.named_parameters(), strict=True)

    def mapped(*values: torch.Tensor) -> torch.Tensor:
        units = torch.eye(36, dtype=torch.float64).view(-1, 4, 3, 3)
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), units).flatten()

    jacobian = torch.autograd.functional.jacobian(mapped, weights)
    matrix = torch.cat([part.flatten(1) for part in jacobian], 1)
    assert torch.linalg.matrix_rank(matrix, rtol=1e-10) == one.degrees
    if one.rank is not None and one.out_size == (1, 1):
        # Of an input as large as the window, the map is the kernel.
        whole = mapped(*weights).view(36, -1)
        assert torch.linalg.matrix_rank(whole, rtol=1e-10) == one.rank


def test_every_form_of_the_list_is_tried() -> None:
    assert {spec_of(form) for form in FORMS_TRIED} | {"svd"} == set(FORMS)
