"""ONNX files: run in ONNX Runtime, compared with each other and with a float64 reference."""

from convfold.verify.onnx.certificate import FileCertificate, FileProbe
from convfold.verify.onnx.files import verify_files
from convfold.verify.onnx.session import run_file

__all__ = ["FileCertificate", "FileProbe", "run_file", "verify_files"]
