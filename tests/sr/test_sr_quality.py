"""PSNR and SSIM on whole held-out pictures; what the decomposition study takes of this package."""

import math

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.studies.bench.decompose import tasks as decompose_tasks
from convfold.train.sr import Bicubic, Degradation, psnr, quality, similarity, sr_network
from convfold.train.sr.batch import crops
from convfold.train.sr.colour import luminance
from sr.photographs import picture

SHOWN = [picture("a", 41, 50), picture("b", 40, 49)]


class Same(nn.Module):
    """The truth plus what it is told."""

    def __init__(self, truth: Tensor, error: Tensor) -> None:
        super().__init__()
        self.answer = truth + error

    def forward(self, x: Tensor) -> Tensor:
        return self.answer


def test_psnr_and_ssim_are_scikit_images_inside_the_border() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    truth = SHOWN[1].tensor[None, :, :, :48]
    error = 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    error[..., 0, :] = 1  # in the border: not seen
    ((name, value, similar),) = quality(Same(truth, error), [SHOWN[1]], Degradation(2))
    inner = [(t.clamp(0, 1))[0, 0, 4:-4, 4:-4].double().numpy() for t in (truth + error, truth)]
    assert name == "b"
    assert value == pytest.approx(peak_signal_noise_ratio(inner[1], inner[0], data_range=1), abs=1e-4)
    assert similar < 1
    assert (psnr(truth, truth), similarity(truth[0], truth[0])) == (math.inf, 1.0)


def test_what_cannot_be_judged_has_no_value() -> None:
    truth = torch.zeros(1, 1, 20, 20)
    assert math.isnan(psnr(torch.full_like(truth, math.nan), truth))
    assert math.isnan(psnr(truth[..., :8, :8] + 1, truth[..., :8, :8])), "all of it is border"
    assert len(quality(Bicubic(2), [picture("a", 21, 20)], Degradation(2))) == 1
    with pytest.raises(
        InvalidArgument, match=r"a: this picture is too small to be judged: got 18x20, expected at least 19x19 pixels"
    ):
        quality(Bicubic(2), [picture("a", 19, 21)], Degradation(2))


def test_bicubic_is_judged_as_networks_are_and_modes_are_kept() -> None:
    rows = quality(Bicubic(2), SHOWN, Degradation(2))
    assert [row[0] for row in rows] == ["a", "b"]
    assert all(15 < value < 60 and 0.5 < similar < 1 for _, value, similar in rows)
    network = sr_network(width=4).train()
    first, second = (quality(network, SHOWN, Degradation(2, "noise")) for _ in range(2))
    assert first == second, "held-out noise is the same each time"
    assert network.training
    with pytest.raises(
        InvalidArgument, match=r"a: the network does not undo this scale: got 26x32, expected 39x48 at scale 3"
    ):
        quality(sr_network(2, width=4), SHOWN, Degradation(3))


def test_the_decomposition_study_has_its_own_arithmetic_still() -> None:
    """Its committed results depend on it bit by bit: the functions as they stood before they moved here."""

    def old_crops(shown: Tensor, size: int, generator: torch.Generator) -> Tensor:
        rows, columns = (
            torch.randint(0, (edge - size) // 2 + 1, (8,), generator=generator) * 2 for edge in shown.shape[2:]
        )
        return torch.cat([shown[..., r : r + size, c : c + size] for r, c in zip(rows, columns, strict=True)])

    def old_psnr(enlarge: nn.Module, shown: Tensor) -> float:
        small = nn.functional.interpolate(shown, scale_factor=0.5, mode="bicubic", antialias=True)
        gap = (enlarge(small).clamp(0, 1) - shown)[..., 4:-4, 4:-4]
        return -10 * math.log10(float(gap.square().mean()))

    shown = SHOWN[0].tensor[None, :, :40, :50].clone()
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    for _ in range(3):
        assert torch.equal(crops(shown, 24, 8, 2, ours), old_crops(shown, 24, theirs))
    enlarge = nn.Upsample(scale_factor=2, mode="nearest")
    assert decompose_tasks._psnr(enlarge, [shown]) == old_psnr(enlarge, shown)
    image = torch.randint(256, (7, 9, 3), dtype=torch.uint8)
    assert torch.equal(luminance(image), image.float() @ torch.tensor([0.299, 0.587, 0.114]) / 255)


def test_the_bicubic_floor_is_that_of_the_committed_decompositions() -> None:
    import json
    from pathlib import Path

    committed = json.loads((Path(__file__).parents[2] / "results" / "decompose.json").read_text())
    floors = {n["floor"] for n in committed["networks"] if n["task"] == "photographs"}
    held_out = [decompose_tasks._columns(one, 2) for one in decompose_tasks._photographs()]
    enlarge = nn.Upsample(scale_factor=2, mode="bicubic")
    assert floors == {decompose_tasks._psnr(enlarge, held_out)}
