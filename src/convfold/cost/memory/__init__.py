"""Bytes: of activations, of the peak that an allocator would reach, of what is read and written."""

from convfold.cost.memory.observer import MemoryObserver

__all__ = ["MemoryObserver"]
