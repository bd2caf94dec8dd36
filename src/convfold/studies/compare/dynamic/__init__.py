"""``convfold compare dynamic``: dynamic convolutions against static ones."""
