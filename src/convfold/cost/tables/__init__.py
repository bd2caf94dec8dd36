"""Costs as text: columns, units, tables."""
