"""``python -m evals.record``: ask every tier about every example of a dataset, and record the answers."""

import sys

from cascade.util.commands import run_module

if __name__ == "__main__":
    sys.exit(run_module("evals.record.command", "evals.record", "evals.record.arguments:parser"))
