"""``python -m evals.recording show | merge | split | sample | import``."""

import sys

from cascade.util.commands import run_module

if __name__ == "__main__":
    sys.exit(run_module("evals.recording.command", "evals.recording"))
