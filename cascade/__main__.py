"""``python -m cascade``: the command line."""

import sys

from cascade.util.broken_pipe import quietly

from .cli import main

if __name__ == "__main__":
    sys.exit(quietly(main))
