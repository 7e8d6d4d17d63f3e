"""The command ``python -m evals.record``: ask, keep, write, and say what is missing."""

import sys

from cascade.util.broken_pipe import quietly

from .command import main

if __name__ == "__main__":
    sys.exit(quietly(main))
