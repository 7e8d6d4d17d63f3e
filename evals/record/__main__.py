"""``python -m evals.record``: record every tier's answers to a dataset."""

import sys

from cascade.util.broken_pipe import quietly

from .command import main

if __name__ == "__main__":
    sys.exit(quietly(main))
