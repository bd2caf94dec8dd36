"""Comparing two models, or two expressions, by a bound that is derived and never given."""

from convfold.verify.certificate import Certificate
from convfold.verify.linear import certify
from convfold.verify.models import verify

__all__ = ["Certificate", "certify", "verify"]
