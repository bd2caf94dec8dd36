"""``convfold compare depth``: linear chains of one function class against one layer."""
