"""Seeing each operator as it is executed, and what it counts for."""

from convfold.cost.counting.counter import Failure, OperatorCounter, Tally

__all__ = ["Failure", "OperatorCounter", "Tally"]
