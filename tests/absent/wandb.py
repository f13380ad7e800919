"""In the way of the package of this name: see `ABSENT` in tests/programs.py."""

raise ImportError("wandb is no part of the program's environment")
