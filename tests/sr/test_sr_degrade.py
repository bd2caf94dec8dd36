"""What is done to a picture: each kind against its equation."""

import math

import pytest
import torch
import torch.nn.functional as F

from convfold.errors import InvalidArgument
from convfold.train.sr import Degradation
from convfold.train.sr.degrade import smaller
from sr.photographs import picture


@pytest.mark.parametrize("scale", [2, 3])
def test_bicubic_is_pillows(scale: int) -> None:
    from PIL import Image

    large = picture("a", 36, 48).tensor
    image = Image.fromarray(large[0].numpy())
    theirs = torch.tensor(image.resize((48 // scale, 36 // scale), Image.Resampling.BICUBIC).get_flattened_data())
    found = Degradation(scale)(large[None])
    assert found.shape == (1, 1, 36 // scale, 48 // scale)
    torch.testing.assert_close(found.flatten(), theirs, rtol=0, atol=1e-5)


def test_noise_is_added_after_making_smaller() -> None:
    large = torch.full((4, 3, 60, 80), 0.5)
    noisy = Degradation(2, "noise", sigma=0.1)(large, torch.Generator().manual_seed(0)) - smaller(large, 2)
    count = noisy.numel()
    assert abs(float(noisy.mean())) < 5 * 0.1 / math.sqrt(count)
    assert abs(float(noisy.std()) / 0.1 - 1) < 5 / math.sqrt(2 * count)


def test_moire_multiplies_by_two_interfering_gratings() -> None:
    """Divided out, what remains is ``a m_1 m_2``: four pure frequencies, two slow and two fast, of one height each."""
    size = 64
    large = torch.full((1, 1, size, size), 0.5)
    kind = Degradation(1, "moire", strength=0.4)
    waves = (kind(large, torch.Generator().manual_seed(3)) / large - 1)[0, 0].double() / 0.4
    assert float(waves.abs().max()) <= 1 + 1e-6
    # The mean square of cos a cos b is 1/4; a windowed spectrum has its peaks at f1 - f2 and f1 + f2 alone.
    assert abs(float(waves.square().mean()) - 0.25) < 0.05
    window = torch.hann_window(size, periodic=False, dtype=torch.float64)
    power = torch.fft.fft2(waves * window[:, None] * window).abs().square()
    peaks = torch.zeros_like(power, dtype=torch.bool)
    for _ in range(4):
        row, column = divmod(int(power.masked_fill(peaks, 0).argmax()), size)
        rows, columns = ((torch.arange(-3, 4) + centre) % size for centre in (row, column))
        peaks[rows[:, None], columns] = True
    assert float(power[peaks].sum() / power.sum()) > 0.98
    frequencies = torch.fft.fftfreq(size)
    heights = (frequencies[:, None].square() + frequencies.square()).sqrt()[power > 0.5 * power.max()]
    assert heights.min() < 0.1 < heights.max(), "a slow beat, and a fast term"


def test_a_channel_has_gratings_of_its_own_phase() -> None:
    found = Degradation(1, "moire")(torch.full((1, 3, 24, 24), 0.5), torch.Generator().manual_seed(0))
    assert (found[0, 0] - found[0, 1]).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["noise", "moire"])
def test_what_is_drawn_comes_from_the_generator(kind: str) -> None:
    large = torch.rand(2, 1, 12, 12)
    first, second, other = (Degradation(2, kind)(large, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    with pytest.raises(InvalidArgument, match=f"generator: {kind} is drawn at random"):
        Degradation(2, kind)(large)


def test_impossible_degradations() -> None:
    with pytest.raises(
        InvalidArgument, match="there is no such degradation: got 'blur', expected bicubic, noise, moire"
    ):
        Degradation(2, "blur")
    with pytest.raises(InvalidArgument, match="no bicubic degradation at this scale: got 1, expected 2 to 8"):
        Degradation(1)
    with pytest.raises(InvalidArgument, match="no noise degradation at this scale: got 0, expected 1 to 8"):
        Degradation(0, "noise")
    with pytest.raises(InvalidArgument, match="no negative strength: got -1"):
        Degradation(2, "noise", sigma=-1)
    with pytest.raises(InvalidArgument, match="multiples of the scale: got 9x8, expected multiples of 2"):
        Degradation(2)(torch.zeros(1, 1, 9, 8))


def test_making_smaller_is_what_the_decompositions_were_made_with() -> None:
    large = torch.rand(2, 1, 48, 62)
    assert torch.equal(smaller(large, 2), F.interpolate(large, scale_factor=0.5, mode="bicubic", antialias=True))
