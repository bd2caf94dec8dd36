"""Training-time structures: blocks that train wide and fold to one convolution.

Adding a block is one file, and one line here.
"""

from convfold.blocks.acnet import ACNetConv1d, ACNetConv2d, ACNetConv3d
from convfold.blocks.base import Block, Scale
from convfold.blocks.dbb import DBBConv1d, DBBConv2d, DBBConv3d
from convfold.blocks.dilated import DilatedConv1d, DilatedConv2d, DilatedConv3d
from convfold.blocks.doconv import DOConv1d, DOConv2d, DOConv3d
from convfold.blocks.ecb import ECBConv2d
from convfold.blocks.expandnet import ExpandNetConv1d, ExpandNetConv2d, ExpandNetConv3d, ExpandNetLinear
from convfold.blocks.fire import FireConv1d, FireConv2d, FireConv3d
from convfold.blocks.mixconv import MixConv1d, MixConv2d, MixConv3d
from convfold.blocks.mobileone import MobileOneConv1d, MobileOneConv2d, MobileOneConv3d
from convfold.blocks.orepa import OREPAConv1d, OREPAConv2d, OREPAConv3d
from convfold.blocks.psconv import PSConv1d, PSConv2d, PSConv3d
from convfold.blocks.qarepvgg import QARepVGGConv1d, QARepVGGConv2d, QARepVGGConv3d
from convfold.blocks.registry import build, find, names
from convfold.blocks.repmlp import RepMLP2d
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
    "DilatedConv1d",
    "DilatedConv2d",
    "DilatedConv3d",
    "ECBConv2d",
    "ExpandNetConv1d",
    "ExpandNetConv2d",
    "ExpandNetConv3d",
    "ExpandNetLinear",
    "FireConv1d",
    "FireConv2d",
    "FireConv3d",
    "MixConv1d",
    "MixConv2d",
    "MixConv3d",
    "MobileOneConv1d",
    "MobileOneConv2d",
    "MobileOneConv3d",
    "OREPAConv1d",
    "OREPAConv2d",
    "OREPAConv3d",
    "PSConv1d",
    "PSConv2d",
    "PSConv3d",
    "QARepVGGConv1d",
    "QARepVGGConv2d",
    "QARepVGGConv3d",
    "RepMLP2d",
    "RepVGGConv1d",
    "RepVGGConv2d",
    "RepVGGConv3d",
    "Scale",
    "build",
    "find",
    "names",
]
