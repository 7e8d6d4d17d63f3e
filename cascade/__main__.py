"""``python -m cascade``, and the console script ``cascade``."""

import sys

from cascade.util.commands import exit_status

from .cli import main


def console() -> int:
    """Runs the command that the process's arguments name. Returns the exit status."""
    return exit_status(main, "cascade")


if __name__ == "__main__":
    sys.exit(console())
