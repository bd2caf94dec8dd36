"""The meaning of torch's operators: one rule per family, each registered under its operators' names."""

from __future__ import annotations

from convfold.graph.capture.rules import affine, channels, dense, elementwise, spatial, views

__all__ = ["affine", "channels", "dense", "elementwise", "spatial", "views"]
