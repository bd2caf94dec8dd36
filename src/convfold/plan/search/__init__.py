"""Planning a fold: which definitions of which values are cheapest, decided on integers."""
