"""``convfold bench device``: what this machine does, and what a model takes on it."""
