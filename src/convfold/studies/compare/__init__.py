"""Methods under one budget, over many seeds: a contest, its runs, and what may be said of it."""
