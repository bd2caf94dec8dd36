"""Forwards that read the size of a value which the fold takes away: no operator shows that they do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convfold
from convfold.plan.emission.passing import looks_at_no_size
from convfold.plan.emission.rewritten import Rewritten


class Like(nn.Module):
    """A map brought to the size of another."""

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:])


class Sizes(nn.Module):
    """Gives no tensor at all."""

    def forward(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[2:])


class Padded(nn.Module):
    """``conv(pad(relu(conv(x))))``, where the fold takes the padding into the convolution, and another branch."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.pad, self.after = nn.Conv2d(3, 4, 3, padding=1), nn.ZeroPad2d(2), nn.Conv2d(4, 5, 3)
        self.other, self.like, self.sizes = nn.Conv2d(3, 4, 3, padding=1), Like(), Sizes()

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pad(F.relu(self.before(x))), F.relu(self.other(x))


class InItsOwnForward(Padded):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded, y = self.branches(x)
        return self.after(padded), F.interpolate(y, padded.shape[-2:])


class InASlice(Padded):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded, y = self.branches(x)
        return self.after(padded), y[:, :, : padded.shape[2] - 3]


class InAModuleBelow(Padded):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded, y = self.branches(x)
        return self.after(padded), self.like(y, padded)


class InAModuleThatGivesNumbers(Padded):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded, y = self.branches(x)
        return self.after(padded), F.interpolate(y, self.sizes(padded))


class Inner(Padded):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        padded = self.pad(x)
        return self.after(padded), F.relu(x)[:, :, : padded.shape[2] - 5]


class InAModuleThatPads(Padded):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(F.relu(self.before(x)))


class Narrowed(nn.Module):
    """A chain of 1x1 convolutions whose middle has another number of channels, which the forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.wide(x)
        return self.narrow(middle), F.relu(x).repeat(1, middle.shape[1], 1, 1)


@pytest.mark.parametrize(
    "kind",
    [InItsOwnForward, InASlice, InAModuleBelow, InAModuleThatGivesNumbers, InAModuleThatPads, Narrowed],
)
def test_sizes_stay_what_they_were(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    folded = convfold.fold(model, x)
    assert convfold.cost(folded, x).operators < convfold.cost(model, x).operators
    for size in ((8, 9), (11, 7)):
        y = torch.randn(2, 3, *size, dtype=torch.float64)
        for wanted, found in zip(model(y), folded(y), strict=True):
            assert found.shape == wanted.shape
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


class Composed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.bend = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.bend(self.narrow(self.wide(x)))


def test_a_forward_that_only_calls_its_modules_stays() -> None:
    model = Composed().eval()
    folded = convfold.fold(model, torch.randn(1, 3, 5, 5))
    assert type(folded) is Composed
    assert convfold.cost(folded, torch.randn(1, 3, 5, 5)).convolutions == 1


def _enclosed() -> type[nn.Module]:
    def helper(x: Tensor) -> Any:
        return x.shape

    class Enclosed(Composed):
        def forward(self, x: Tensor) -> Any:
            return helper(x)

    return Enclosed


class Listing(Composed):
    def forward(self, x: Tensor) -> Any:
        return [y.shape for y in (x, x)]


class Named(Composed):
    """Has a child by whose name a tensor tells its size."""

    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return x.size()


def test_which_forwards_look_at_no_size() -> None:
    hidden = Composed()
    hidden.forward = lambda x: x  # type: ignore[method-assign]
    assert all(map(looks_at_no_size, (nn.Sequential(nn.ReLU()), nn.Identity(), nn.Dropout(), Composed())))
    assert not any(map(looks_at_no_size, (Like(), Sizes(), InASlice(), hidden, nn.Conv2d(1, 1, 1))))
    assert not any(map(looks_at_no_size, (_enclosed()(), Listing(), Named())))


class Attributed(nn.Module):
    """Its names are those that a rewritten class might have taken for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.source, self.written_from = (1, 2), "here"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.one(x) + self.two(x))


def test_names_of_the_users_own_stay_free() -> None:
    model = Attributed().double().eval()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    folded = convfold.fold(model, x)
    assert isinstance(folded, Rewritten)
    assert (folded.source, folded.written_from) == ((1, 2), "here")  # type: ignore[attr-defined]
    for again in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded)), convfold.fold(folded, x)):
        torch.testing.assert_close(again(x), model(x), rtol=0, atol=1e-12)


class TwiceAtTheBorder(nn.Module):
    """Its fold keeps a map of a bias that is bound to the size of a padded value; folded again, that value goes."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.mix, self.steps = nn.ZeroPad2d((1, 1, 2, 2)), nn.Conv2d(4, 7, 1), nn.Conv2d(7, 6, 1, stride=2)
        self.mix.bias.data.copy_(torch.randn(7))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(F.pad(self.mix(self.pad(x)), (0, 0, 1, 0)))


def test_a_fold_with_a_border_map_folds_again() -> None:
    torch.manual_seed(0)
    model = TwiceAtTheBorder().double().eval()
    x = torch.randn(1, 4, 5, 9, dtype=torch.float64)
    folded = convfold.fold(model, x)
    again = convfold.fold(folded, x)
    for found in (folded, again):
        torch.testing.assert_close(found(x), model(x), rtol=0, atol=1e-12)
