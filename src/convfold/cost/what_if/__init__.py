"""What a layer would cost in another form, alone and in its model."""

from convfold.cost.what_if.scenario import Scenario, what_if

__all__ = ["Scenario", "what_if"]
