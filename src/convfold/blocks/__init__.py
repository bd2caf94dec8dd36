"""Training-time structures: blocks that train wide and fold to one convolution.

Adding a block is one file, and one line here.
"""

from convfold.blocks.acnet import ACNetConv1d, ACNetConv2d, ACNetConv3d
from convfold.blocks.base import Block, Scale, build, find, names
from convfold.blocks.dbb import DBBConv1d, DBBConv2d, DBBConv3d
from convfold.blocks.doconv import DOConv1d, DOConv2d, DOConv3d
from convfold.blocks.expandnet import ExpandNetConv1d, ExpandNetConv2d, ExpandNetConv3d, ExpandNetLinear
from convfold.blocks.mobileone import MobileOneConv1d, MobileOneConv2d, MobileOneConv3d
from convfold.blocks.repvgg import RepVGGConv1d, RepVGGConv2d, RepVGGConv3d

__all__ = [
    "ACNetConv1d",
    "ACNetConv2d",
    "ACNetConv3d",
    "Block",
    "DBBConv1d",
    "DBBConv2d",
    "DBBConv3d",
    "DOConv1d",
    "DOConv2d",
    "DOConv3d",
    "ExpandNetConv1d",
    "ExpandNetConv2d",
    "ExpandNetConv3d",
    "ExpandNetLinear",
    "MobileOneConv1d",
    "MobileOneConv2d",
    "MobileOneConv3d",
    "RepVGGConv1d",
    "RepVGGConv2d",
    "RepVGGConv3d",
    "Scale",
    "build",
    "find",
    "names",
]
