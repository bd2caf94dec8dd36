"""``convfold bench decompose``: approximations of a network on digits, by error and by time."""
