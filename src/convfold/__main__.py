"""``python -m convfold``, and so ``torchrun -m convfold``: the command line."""

from __future__ import annotations

from convfold.cli import main

if __name__ == "__main__":
    main()
