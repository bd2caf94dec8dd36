"""Models by name or file, their weights, and the inputs that they are known to take."""

from convfold.zoo.inputs import known_inputs, known_size, normalisation, open_model, random_input
from convfold.zoo.names import FILE_FORMS, FORMS, import_torchvision, is_onnx, is_program, load_model
from convfold.zoo.program import Program, read_program
from convfold.zoo.weights import apart, check_fits, load_weights

__all__ = [
    "FILE_FORMS",
    "FORMS",
    "Program",
    "apart",
    "check_fits",
    "import_torchvision",
    "is_onnx",
    "is_program",
    "known_inputs",
    "known_size",
    "load_model",
    "load_weights",
    "normalisation",
    "open_model",
    "random_input",
    "read_program",
]
