"""decompose: kernels as products of smaller ones, each with the error it is held to and the error it has."""

from convfold.transform.decompose.decompose import decompose
from convfold.transform.decompose.methods import METHODS
from convfold.transform.decompose.report import Report, Row
from convfold.transform.decompose.separable import is_separable, separability

__all__ = ["METHODS", "Report", "Row", "decompose", "is_separable", "separability"]
