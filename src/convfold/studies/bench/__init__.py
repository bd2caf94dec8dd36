"""Measurements side by side: ratios of times, counts and errors, one verb each."""
