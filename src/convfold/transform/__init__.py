"""Model to model: expand and fold."""

from convfold.transform.expand import Expansion, expand, plan_expansion
from convfold.transform.fold import fold
from convfold.transform.recipe import Recipe, Rule

__all__ = ["Expansion", "Recipe", "Rule", "expand", "fold", "plan_expansion"]
