"""``convfold bench counters``: counts of operations against a truth that is executed, and against other counters."""
