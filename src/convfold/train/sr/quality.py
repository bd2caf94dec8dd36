"""How near a network's pictures come to the truth: PSNR and SSIM, on whole pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.train.sr.batch import generator_of
from convfold.train.sr.degrade import Degradation
from convfold.train.sr.pictures import Picture
from convfold.transform.ship.program import evaluating

__all__ = ["BORDER", "check_large_enough", "given", "psnr", "quality", "restored", "similarity", "whole"]

# Pixels of the truth left out on every side, where padding rather than the network decides.
BORDER = 4
# SSIM looks through a window of so many pixels, inside the border.
_WINDOW = 11


def psnr(found: Tensor, truth: Tensor) -> float:
    """``10 log10(1 / mean (found - truth)^2)`` in dB of pictures in [0, 1], `BORDER` pixels of each side left out.

    Infinite for equal pictures, NaN where `found` has a NaN or nothing lies inside the border.
    """
    gap = (found.clamp(0, 1) - truth)[..., BORDER:-BORDER, BORDER:-BORDER]
    error = float(gap.square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def similarity(found: Tensor, truth: Tensor) -> float:
    """SSIM of two pictures (C, H, W) in [0, 1] as first published: a Gaussian window of deviation 1.5.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004. Needs
    scikit-image.
    """
    from skimage.metrics import structural_similarity  # noqa: PLC0415

    pair = [t.clamp(0, 1)[..., BORDER:-BORDER, BORDER:-BORDER].double().cpu().numpy() for t in (found, truth)]
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(*pair, data_range=1.0, channel_axis=0, **settings))  # type: ignore[no-untyped-call]


def whole(picture: Picture, scale: int) -> Tensor:
    """The picture (1, C, H, W), cut at the right and below to multiples of `scale`."""
    height, width = (edge // scale * scale for edge in picture.tensor.shape[-2:])
    return picture.tensor[None, :, :height, :width]


def check_large_enough(picture: Picture, scale: int) -> None:
    """Raise InvalidArgument where too little of a picture, cut to multiples of `scale`, lies inside the border."""
    height, width = whole(picture, scale).shape[-2:]
    least = _WINDOW + 2 * BORDER
    if min(height, width) < least:
        raise InvalidArgument(
            "this picture is too small to be judged",
            where=picture.name,
            got=f"{height}x{width}",
            expected=f"at least {least}x{least} pixels",
            hint="Take larger pictures.",
        )


def given(picture: Picture, degradation: Degradation) -> Tensor:
    """What a network is given of a held-out picture (1, C, H, W): the same each time, whatever the network."""
    return degradation(whole(picture, degradation.scale), generator_of(0, "held out", picture.name))


def restored(model: nn.Module, small: Tensor) -> Tensor:
    """`model` in eval mode on `small`, on the device of its parameters, clipped to [0, 1]; its mode is kept."""
    place = next(model.parameters(), torch.empty(0))
    with evaluating(model), torch.no_grad():
        found: Tensor = model(small.to(place)).clamp(0, 1)
        return found.to(small)


def quality(model: nn.Module, pictures: Sequence[Picture], degradation: Degradation) -> list[tuple[str, float, float]]:
    """Per picture its name, PSNR in dB and SSIM of ``model(degradation(picture))`` against the picture.

    `Bicubic(scale)` as the model gives the value without a network. Noise and moire are the same for each model. Needs
    scikit-image. Raises InvalidArgument for a picture too small for them, and where a model's output has another size
    than the picture.
    """
    rows = []
    for picture in pictures:
        check_large_enough(picture, degradation.scale)
        truth = whole(picture, degradation.scale)
        found = restored(model, given(picture, degradation))
        if found.shape != truth.shape:
            raise InvalidArgument(
                "the network does not undo this scale",
                where=picture.name,
                got=f"{found.shape[-2]}x{found.shape[-1]}",
                expected=f"{truth.shape[-2]}x{truth.shape[-1]} at scale {degradation.scale}",
            )
        rows.append((picture.name, psnr(found, truth), similarity(found[0], truth[0])))
    return rows
