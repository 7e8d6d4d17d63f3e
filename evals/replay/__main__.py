"""``python -m evals.replay``: calibrate, tune and certify on a recording."""

import sys

from cascade.util.commands import run_module

if __name__ == "__main__":
    sys.exit(run_module("evals.replay.command", "evals.replay", "evals.replay.arguments:parser"))
