"""The meaning of ONNX's operators, one word per family; what they have in common with torch's stands in the rules."""

from __future__ import annotations

from convfold.graph.onnx.words import affine, channels, dense, elementwise, spatial, views

__all__ = ["affine", "channels", "dense", "elementwise", "spatial", "views"]
