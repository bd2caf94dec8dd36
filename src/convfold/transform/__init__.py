"""Model to model, and file to file: expand and fold."""

from convfold.transform.expand import Expansion, expand, plan_expansion
from convfold.transform.fold import fold
from convfold.transform.fold_onnx import FoldedFile, fold_onnx, plan_onnx
from convfold.transform.recipe import Recipe, Rule

__all__ = [
    "Expansion",
    "FoldedFile",
    "Recipe",
    "Rule",
    "expand",
    "fold",
    "fold_onnx",
    "plan_expansion",
    "plan_onnx",
]
