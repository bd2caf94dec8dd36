"""The training loop: the seed decides everything, and zero gammas are left to grow."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")

from convfold.errors import ConvfoldError, InvalidArgument
from convfold.train import Recipe, count_wrong, digits, plain_cnn, predictions, scale_gammas, train
from convfold.transform import expand

SHORT = Recipe(epochs=2, batch_size=128)


def trained(seed: int, recipe: Recipe = SHORT) -> tuple[nn.Module, list]:
    torch.manual_seed(0)
    model = plain_cnn(width=4)
    return model, train(model, digits(), recipe, seed)


def test_digits_are_split_once_evenly_and_without_overlap() -> None:
    data = digits()
    assert data.train_x.shape[1:] == data.test_x.shape[1:] == (1, 8, 8)
    assert len(data.train_x) + len(data.test_x) == 1797
    assert torch.bincount(data.train_y).sub(torch.bincount(data.test_y)).abs().max() <= 1
    both = torch.cat([data.train_x, data.test_x]).flatten(1)
    assert len(both.unique(dim=0)) == len(both)
    assert abs(data.train_x.mean()) < 1e-5
    assert abs(data.train_x.std() - 1) < 1e-3
    assert digits().fingerprint == data.fingerprint != digits(split_seed=1).fingerprint


def test_a_test_part_of_everything_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="test_fraction"):
        digits(test_fraction=1.0)


def test_one_seed_gives_one_network_and_another_another() -> None:
    (first, history), (second, same), (third, other) = trained(1), trained(1), trained(2)
    assert history == same != other
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(third.parameters()))


def test_it_learns() -> None:
    _, history = trained(0, Recipe(epochs=8, batch_size=32))
    assert history[-1].train_loss < 0.25 * history[0].train_loss
    assert history[-1].test_error < 0.1


def test_weight_decay_touches_weights_only() -> None:
    """With no learning signal at all only decay moves parameters."""
    data = digits()
    model = expand(plain_cnn(width=4), "repvgg", example_inputs=data.test_x[:2])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
    train(model, data, Recipe(epochs=1, batch_size=256, weight_decay=0.1, warmup_epochs=0.0), 0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in before.items() if p.dim() > 1}


def test_gammas_that_start_at_zero_grow() -> None:
    data = digits()
    model = expand(plain_cnn(width=4), "repvgg", example_inputs=data.test_x[:2])
    zero = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.detach().any()]
    assert zero
    train(model, data, SHORT, 0)
    assert all(weight.detach().abs().min() > 0 for weight in zero)


def test_predicting_keeps_every_modules_mode() -> None:
    data = digits()
    model = plain_cnn().train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    statistics = model[4].running_mean.clone()
    predictions(model, data.test_x)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model[4].running_mean, statistics)


def test_counting_wrong_ones() -> None:
    data = digits()
    model = plain_cnn().eval()
    right = predictions(model, data.test_x)
    assert count_wrong(model, data.test_x, right) == 0
    assert count_wrong(model, data.test_x, (right + 1) % 10) == len(right)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = plain_cnn(width=4)
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(ConvfoldError, match=r"epoch 1, seed 5.*got nan.*Lower the learning rate"):
        train(model, digits(), SHORT, 5)


def test_scaled_gammas() -> None:
    model = scale_gammas(plain_cnn(), 3**0.5)
    found = [float(v) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for v in m.weight.detach().unique()]
    assert found == pytest.approx([3**0.5] * 3)
