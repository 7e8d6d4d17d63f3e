"""``python -m evals.demo``: a cascade live, with a small model on this machine."""

import sys

from cascade.util.broken_pipe import quietly

from .demo import main

if __name__ == "__main__":
    sys.exit(quietly(main))
