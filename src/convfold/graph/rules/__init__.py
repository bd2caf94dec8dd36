"""The meaning of operators: one rule per family, each registered under the names that torch gives them."""

from __future__ import annotations

from convfold.graph.rules import affine, channels, dense, elementwise, spatial, views

__all__ = ["affine", "channels", "dense", "elementwise", "spatial", "views"]
