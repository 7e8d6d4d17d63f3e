"""``python -m evals.grade``: grade the answers of a recording."""

import sys

from cascade.util.commands import run_module

if __name__ == "__main__":
    sys.exit(run_module("evals.grade.command", "evals.grade", "evals.grade.arguments:parser"))
