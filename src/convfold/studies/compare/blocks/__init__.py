"""``convfold compare blocks``: training-time blocks against plain at one deployed architecture."""
