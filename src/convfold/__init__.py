"""convfold: write a convolution wide to train and plain to run, and prove that the function did not change.

    expand  ->  your training loop  ->  fold  ->  ship

>>> import torch, convfold
>>> block = convfold.blocks.DBBConv2d(8, 16, 3, padding=1).eval()
>>> plain = convfold.fold(block)
>>> plain
Conv2d(8, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
>>> bool(convfold.verify(block, plain, torch.randn(1, 8, 12, 12)))
True
"""

from importlib.metadata import version as _version

from convfold import blocks, dynamic, errors, layers
from convfold.algebra.protocol import kernel
from convfold.cost import cost
from convfold.plan import load_plan, plan
from convfold.transform import Recipe, Rule, decompose, expand, fold, fold_onnx, plan_expansion, plan_onnx
from convfold.transform.lower import lower
from convfold.verify import verify

__version__ = _version("convfold")
__all__ = [
    "Recipe",
    "Rule",
    "__version__",
    "blocks",
    "cost",
    "decompose",
    "dynamic",
    "errors",
    "expand",
    "fold",
    "fold_onnx",
    "kernel",
    "layers",
    "load_plan",
    "lower",
    "plan",
    "plan_expansion",
    "plan_onnx",
    "verify",
]
