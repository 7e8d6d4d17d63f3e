"""The command ``python -m evals.record``: ask, keep, write, and say what is missing."""

import sys

from cascade.quiet import quietly
from evals.record.command import main

if __name__ == "__main__":
    sys.exit(quietly(main))
