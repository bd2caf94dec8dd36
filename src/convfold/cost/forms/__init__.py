"""The forms that one convolution may take, each as the operators it consists of, on plain integers."""

from __future__ import annotations

from convfold.cost.forms.names import FORMS, Form, Spec, read_spec, variant
from convfold.cost.forms.steps import Step, Term
from convfold.cost.forms.variant import Variant

__all__ = ["FORMS", "Form", "Spec", "Step", "Term", "Variant", "read_spec", "variant"]
