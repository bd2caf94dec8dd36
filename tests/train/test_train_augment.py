"""What images look like to a network: random by (seed, epoch, index) alone, and nothing lost on the way."""

from __future__ import annotations

import pytest
import torch

from convfold.train.augment import Shown, View
from convfold.train.images import Part
from convfold.train.seeds import epoch_order, generator, mix

ONE = torch.tensor([0.0]).reshape(1, 1, 1), torch.tensor([1.0]).reshape(1, 1, 1)


def part(count: int = 4, height: int = 16, width: int = 16) -> Part:
    stored = torch.randint(256, (count, 1, height, width), generator=generator(0), dtype=torch.uint8)
    return Part(torch.arange(count), 1, stored)


def view(augment: str = "none", flip: bool = False, size: tuple[int, int] = (16, 16)) -> View:
    return View(size, 255, *ONE, augment=augment, flip=flip)


def test_numbers_in_another_order_are_another_seed() -> None:
    assert len({mix(1, 2), mix(2, 1), mix(12), mix(1, 2, 0), mix(1, -2)}) == 5
    assert 0 <= mix(5) < 2**63


def test_an_epochs_order_holds_every_image_and_changes() -> None:
    first, second = epoch_order(50, 0, 0), epoch_order(50, 0, 1)
    assert torch.equal(first.sort().values, torch.arange(50))
    assert not torch.equal(first, second)
    assert torch.equal(first, epoch_order(50, 0, 0))


@pytest.mark.parametrize("augment", ["shift", "crop"])
def test_an_image_is_random_by_seed_epoch_and_index(augment: str) -> None:
    shown = [Shown(part(), view(augment), *numbers) for numbers in ((0, 0), (0, 0), (0, 1), (1, 0))]
    torch.rand(3)  # the global generator has no say
    one, same, later, other = (data[2][0] for data in shown)
    assert torch.equal(one, same)
    assert not torch.equal(one, later)
    assert not torch.equal(one, other)
    assert one.shape == (1, 16, 16)


def test_without_augmentation_pixels_are_scaled_only() -> None:
    data = part()
    assert data.stored is not None
    assert torch.equal(Shown(data, view(), 0, 3)[1][0], data.stored[1] / 255)
    mean, std = torch.tensor([0.5, 0.25, 0.125]).reshape(3, 1, 1), torch.tensor([2.0, 4.0, 8.0]).reshape(3, 1, 1)
    coloured = torch.full((3, 16, 16), 51, dtype=torch.uint8)
    found = View((16, 16), 255, mean, std).plain(coloured)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([(0.2 - 0.5) / 2, (0.2 - 0.25) / 4, (0.2 - 0.125) / 8]))


def test_testing_is_never_random() -> None:
    data = part()
    assert data.stored is not None
    assert torch.equal(Shown(data, view("shift", flip=True))[0][0], data.stored[0] / 255)


def test_a_flip_mirrors_half_of_the_images() -> None:
    data = part(200)
    shown = Shown(data, view(flip=True), 0, 0)
    assert data.stored is not None
    plain = data.stored / 255
    mirrored = [torch.equal(shown[i][0], plain[i].flip(-1)) for i in range(200)]
    assert all(m or torch.equal(shown[i][0], plain[i]) for i, m in enumerate(mirrored))
    assert 70 < sum(mirrored) < 130


def test_a_shift_moves_by_at_most_an_eighth_and_brings_in_black() -> None:
    data = part(60)
    assert data.stored is not None
    plain, moves = data.stored / 255, set()
    for i in range(60):
        found = Shown(data, view("shift"), 0, 0)[i][0][0]
        wide = torch.nn.functional.pad(plain[i], (2, 2, 2, 2))[0]
        fits = [(r, c) for r in range(5) for c in range(5) if torch.equal(found, wide[r : r + 16, c : c + 16])]
        assert len(fits) == 1
        moves.update(fits)
    assert len(moves) > 15


def test_a_crop_shows_a_part_of_the_picture() -> None:
    """Of a picture whose value is its row, what is shown is a range of rows, in order."""
    rows = torch.arange(0, 200, dtype=torch.uint8).reshape(1, -1, 1).expand(1, 200, 150)
    spans = []
    for number in range(40):
        found = view("crop", size=(20, 20)).random(rows, generator(number))[0] * 255
        assert (found[1:] > found[:-1]).all()
        assert (found - found[:, :1]).abs().max() < 1e-3
        spans.append(float(found[-1, 0] - found[0, 0]))
    # A quarter of the area at 4:3 is the least: 75 rows or more, less the average over the outer rows.
    assert min(spans) > 60
    assert max(spans) > 120


def test_the_middle_of_other_proportions_is_tested() -> None:
    wide = torch.zeros(1, 10, 30, dtype=torch.uint8)
    wide[..., 10:20] = 255
    assert view(size=(10, 10)).plain(wide).min() == 1
    assert view(size=(5, 5)).plain(wide).shape == (1, 5, 5)


def test_grey_is_repeated_where_colours_are_needed() -> None:
    shown = View((4, 4), 16, *ONE, repeat=True)
    found = shown.plain(torch.full((1, 4, 4), 8, dtype=torch.uint8))
    assert shown.shape == found.shape == (3, 4, 4)
    assert (found == 0.5).all()
