"""Model to model, and file to file: expand and fold."""

from convfold.transform.decompose import decompose, is_separable, separability
from convfold.transform.expand import Expansion, expand, plan_expansion
from convfold.transform.fold import fold
from convfold.transform.fold_onnx import FoldedFile, fold_onnx, plan_onnx
from convfold.transform.recipe import Recipe, Rule

__all__ = [
    "Expansion",
    "FoldedFile",
    "Recipe",
    "Rule",
    "decompose",
    "expand",
    "fold",
    "fold_onnx",
    "is_separable",
    "plan_expansion",
    "plan_onnx",
    "separability",
]
