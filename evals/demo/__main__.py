"""``python -m evals.demo``: a cascade live, with a small model on this machine."""

import sys

from cascade.util.commands import run_module

if __name__ == "__main__":
    sys.exit(run_module("evals.demo.demo", "evals.demo", "evals.demo.arguments:parser"))
