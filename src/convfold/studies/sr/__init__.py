"""``convfold train sr``: super-resolution by one deployed architecture, trained in several forms."""
