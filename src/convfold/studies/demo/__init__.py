"""``convfold demo``: expand, train, fold, ship on digits, with controls."""
