"""Super-resolution and restoration: pictures, degradations, one plain network, its arms, training, quality."""

from __future__ import annotations

from convfold.train.sr.bundled import CREDITS, bundled
from convfold.train.sr.degrade import Degradation
from convfold.train.sr.fit import Fit, SrRecipe, fit_sr
from convfold.train.sr.network import Bicubic, SrNetwork, sr_arm, sr_network
from convfold.train.sr.pictures import Picture, Pictures, from_folder
from convfold.train.sr.quality import psnr, quality, restored, similarity

__all__ = [
    "CREDITS",
    "Bicubic",
    "Degradation",
    "Fit",
    "Picture",
    "Pictures",
    "SrNetwork",
    "SrRecipe",
    "bundled",
    "fit_sr",
    "from_folder",
    "psnr",
    "quality",
    "restored",
    "similarity",
    "sr_arm",
    "sr_network",
]
