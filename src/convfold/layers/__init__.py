"""The family of convolutions: every variant as a layer, with nn.Conv's arguments, in 1-D, 2-D and 3-D.

The linear ones are expressions of the algebra: they run, compose, fold and cost by its laws alone.
"""

from convfold.layers.base import Layer, LinearLayer
from convfold.layers.bottleneck import BottleneckConv1d, BottleneckConv2d, BottleneckConv3d
from convfold.layers.fire import Fire1d, Fire2d, Fire3d
from convfold.layers.flattened import FlattenedConv1d, FlattenedConv2d, FlattenedConv3d
from convfold.layers.full_map import FullMapConv1d, FullMapConv2d, FullMapConv3d
from convfold.layers.gated import GatedConv1d, GatedConv2d, GatedConv3d
from convfold.layers.merge import SplitTransformMergeConv1d, SplitTransformMergeConv2d, SplitTransformMergeConv3d
from convfold.layers.registry import build, find, names
from convfold.layers.separable import DepthwiseSeparableConv1d, DepthwiseSeparableConv2d, DepthwiseSeparableConv3d
from convfold.layers.shuffle import ShuffleConv1d, ShuffleConv2d, ShuffleConv3d
from convfold.layers.single import (
    DilatedConv1d,
    DilatedConv2d,
    DilatedConv3d,
    PointwiseConv1d,
    PointwiseConv2d,
    PointwiseConv3d,
)
from convfold.layers.spatial import SpatiallySeparableConv1d, SpatiallySeparableConv2d, SpatiallySeparableConv3d
from convfold.layers.transposed import (
    DepthwiseSeparableConvTranspose1d,
    DepthwiseSeparableConvTranspose2d,
    DepthwiseSeparableConvTranspose3d,
)

__all__ = [
    "BottleneckConv1d",
    "BottleneckConv2d",
    "BottleneckConv3d",
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DepthwiseSeparableConv3d",
    "DepthwiseSeparableConvTranspose1d",
    "DepthwiseSeparableConvTranspose2d",
    "DepthwiseSeparableConvTranspose3d",
    "DilatedConv1d",
    "DilatedConv2d",
    "DilatedConv3d",
    "Fire1d",
    "Fire2d",
    "Fire3d",
    "FlattenedConv1d",
    "FlattenedConv2d",
    "FlattenedConv3d",
    "FullMapConv1d",
    "FullMapConv2d",
    "FullMapConv3d",
    "GatedConv1d",
    "GatedConv2d",
    "GatedConv3d",
    "Layer",
    "LinearLayer",
    "PointwiseConv1d",
    "PointwiseConv2d",
    "PointwiseConv3d",
    "ShuffleConv1d",
    "ShuffleConv2d",
    "ShuffleConv3d",
    "SpatiallySeparableConv1d",
    "SpatiallySeparableConv2d",
    "SpatiallySeparableConv3d",
    "SplitTransformMergeConv1d",
    "SplitTransformMergeConv2d",
    "SplitTransformMergeConv3d",
    "build",
    "find",
    "names",
]
