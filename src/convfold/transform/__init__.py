"""Model to model: expand and fold."""

from convfold.transform.expand import Expansion, expand, plan_expansion
from convfold.transform.fold import fold

__all__ = ["Expansion", "expand", "fold", "plan_expansion"]
