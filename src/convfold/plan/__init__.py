"""Deciding a fold from shapes alone, printing it, costing it, and applying it."""

from convfold.plan.plan import Plan, load_plan, plan
from convfold.plan.regions import Region

__all__ = ["Plan", "Region", "load_plan", "plan"]
