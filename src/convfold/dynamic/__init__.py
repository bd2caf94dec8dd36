"""Dynamic convolutions: one definition of a kernel mixed per sample, three ways to predict the mixture."""

from convfold.dynamic.base import DynamicLayer
from convfold.dynamic.layers import (
    CondConv1d,
    CondConv2d,
    CondConv3d,
    CondLinear,
    DynamicConv1d,
    DynamicConv2d,
    DynamicConv3d,
    DynamicLinear,
    DyNetConv1d,
    DyNetConv2d,
    DyNetConv3d,
)
from convfold.dynamic.mixture import Mixture
from convfold.dynamic.registry import build, find, names
from convfold.dynamic.routing import AttentionRouter, ChannelRouter, Router, SigmoidRouter, UniformRouter
from convfold.dynamic.schedule import TemperatureSchedule
from convfold.dynamic.shared import SharedRouter

__all__ = [
    "AttentionRouter",
    "ChannelRouter",
    "CondConv1d",
    "CondConv2d",
    "CondConv3d",
    "CondLinear",
    "DyNetConv1d",
    "DyNetConv2d",
    "DyNetConv3d",
    "DynamicConv1d",
    "DynamicConv2d",
    "DynamicConv3d",
    "DynamicLayer",
    "DynamicLinear",
    "Mixture",
    "Router",
    "SharedRouter",
    "SigmoidRouter",
    "TemperatureSchedule",
    "UniformRouter",
    "build",
    "find",
    "names",
]
