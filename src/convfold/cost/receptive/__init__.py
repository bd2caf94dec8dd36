"""What of the input each value depends on: exact intervals, carried through the operators."""

from convfold.cost.receptive.observer import ReceptiveObserver

__all__ = ["ReceptiveObserver"]
