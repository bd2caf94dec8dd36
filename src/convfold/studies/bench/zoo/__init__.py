"""``convfold bench zoo``: models of timm and torchvision, folded and held against their own folds."""
