"""``python -m evals.replay``: calibrate, tune and certify on a recording."""

import sys

from cascade.util.broken_pipe import quietly

from .command import main

if __name__ == "__main__":
    sys.exit(quietly(main))
