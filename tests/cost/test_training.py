"""A step of training: closed forms of the backward pass, what is kept, what optimisers hold."""

from math import prod

import pytest
import torch
from torch import nn

from convfold.cost.training import OPTIMIZERS, optimizer_bytes, training_step
from convfold.errors import InvalidArgument, UnknownName

X = torch.empty(2, 8, 12, 10)

LAYERS = {
    "conv": lambda: nn.Conv2d(8, 8, 3, padding=1),
    "strided": lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(8, 8, 3, dilation=2, padding=2, bias=False),
    "grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, padding=2, groups=8),
    "pointwise": lambda: nn.Conv2d(8, 8, 1),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1),
    "transposed grouped": lambda: nn.ConvTranspose2d(8, 8, 3, 2, 1, 1, groups=4),
    "linear": lambda: nn.Linear(10, 10),
}


def forward_macs(layer, x):
    """N * places * weights, the places those of the output, of a transposed convolution those of the input."""
    places = x.shape if isinstance(layer, nn.ConvTranspose2d) else layer(torch.zeros_like(x)).shape
    if isinstance(layer, nn.Linear):
        return prod(x.shape[:-1]) * layer.weight.numel()
    return places[0] * prod(places[2:]) * layer.weight.numel()


@pytest.mark.parametrize("name", LAYERS)
def test_the_first_layer_costs_two_forwards_and_every_other_three(name):
    first, second = LAYERS[name](), LAYERS[name]()
    one, two = forward_macs(first, X), forward_macs(second, first(X))
    alone, chain = training_step(first, X), training_step(nn.Sequential(first, nn.ReLU(), second), X)
    assert (alone.forward_macs, alone.macs) == (one, 2 * one)
    assert (chain.forward_macs, chain.macs) == (one + two, 2 * one + 3 * two)
    assert chain.flops >= 2 * chain.macs
    assert chain.flops > chain.forward_flops >= 2 * chain.forward_macs


def test_a_frozen_layer_costs_its_input_gradient_only():
    first, second = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
    for parameter in second.parameters():
        parameter.requires_grad_(False)
    one, two = forward_macs(first, X), forward_macs(second, first(X))
    told = training_step(nn.Sequential(first, second), X)
    assert told.macs == 2 * one + 2 * two
    assert told.gradient_bytes == first.weight.nbytes + first.bias.nbytes


def test_what_is_kept_for_the_backward_pass():
    layers = [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)]
    # A ReLU needs its result, the next convolution the same tensor.
    assert training_step(nn.Sequential(*layers), X).kept_bytes == 2 * X.nbytes
    normed = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
    # Both maps, with mean and inverse deviation of the batch.
    assert training_step(normed, X).kept_bytes == 2 * X.nbytes + 2 * 8 * 4


def test_gradients_and_traffic():
    model = nn.Sequential(nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    told = training_step(model, X)
    assert told.gradient_bytes == sum(p.nbytes for p in model.parameters())
    assert told.peak_bytes >= told.kept_bytes + model[0].weight.nbytes
    assert told.traffic_bytes > 2 * told.forward_traffic_bytes
    assert told.to_dict()["optimizer_bytes"] == dict(told.optimizer_bytes)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p)),
        ("adam", lambda p: torch.optim.AdamW(p)),
    ],
)
def test_what_optimisers_hold(name, make):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[0].bias.requires_grad_(False)
    optimiser = make([p for p in model.parameters() if p.requires_grad])
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimiser.step()
    states = [value for state in optimiser.state.values() for value in state.values()]
    held = sum(value.nbytes for value in states if isinstance(value, torch.Tensor))
    assert optimizer_bytes(model, name) == held
    assert training_step(model, torch.randn(2, 3, 5, 5)).optimizer_bytes[name] == held


def test_the_model_is_untouched_and_trained_whatever_its_mode():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, 5, 5)
    drawn = torch.get_rng_state()
    told = training_step(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module.training or module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    # The mask of the dropout is kept: it was in train mode.
    assert told.kept_bytes > training_step(model[:2], x).kept_bytes
    assert told.real_run == ""


def test_no_memory_is_taken():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Conv2d(4096, 4096, 3, padding=1) for _ in range(20)))
    told = training_step(model, torch.empty(64, 4096, 128, 128, device="meta"))
    assert told.macs == (3 * 20 - 1) * 64 * 128 * 128 * 4096 * 4096 * 9


class Reads(nn.Linear):
    def forward(self, x):
        return super().forward(x / x.abs().max().item())


def test_what_meta_tensors_cannot_do_is_run_for_real_and_says_so():
    model = Reads(4, 3)
    told = training_step(model, torch.ones(2, 4))
    assert "item" in told.real_run
    assert (told.forward_macs, told.macs) == (24, 48)
    assert model.weight.grad is None


def test_several_outputs():
    class Two(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            return {"a": out, "b": (out * 2, x)}

    assert training_step(Two(4, 3), torch.ones(2, 4)).macs == 48


def test_bad_models():
    frozen = nn.Linear(4, 3).requires_grad_(False)
    with pytest.raises(InvalidArgument, match="Linear: no output depends on a parameter that is trained"):
        training_step(frozen, torch.ones(2, 4))
    with pytest.raises(InvalidArgument, match="the model does not run on these example inputs"):
        training_step(nn.Linear(4, 3), torch.ones(2, 5))
    with pytest.raises(UnknownName, match=f"no closed form for this optimiser: got 'lion'.*{', '.join(OPTIMIZERS)}"):
        optimizer_bytes(frozen, "lion")
