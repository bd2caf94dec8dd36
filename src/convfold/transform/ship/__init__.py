"""A folded model as a file: ``.pt2``, ONNX, or a folder of plan and weights. What is written was run first."""

from convfold.transform.ship.folder import PLAN, WEIGHTS, save_folder
from convfold.transform.ship.onnx_file import ONNX_NEEDS, save_onnx
from convfold.transform.ship.pt2_file import save_pt2
from convfold.transform.ship.target import check_target

__all__ = ["ONNX_NEEDS", "PLAN", "WEIGHTS", "check_target", "save_folder", "save_onnx", "save_pt2"]
