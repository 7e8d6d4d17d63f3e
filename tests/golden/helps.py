"""Runs commands with ``--help`` in one process; prints as JSON what each of them said: ``helps.py 'MODULE WORD' ...``."""

import io
import json
import runpy
import sys
import warnings
from contextlib import redirect_stdout


def help_of(command: str) -> str:
    """What the command prints, as ``python -m`` would run it."""
    module, *words = command.split()
    sys.argv = ["", *words, "--help"]
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise
    return out.getvalue()


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # a module that an earlier command has imported is run again
    print(json.dumps({command: help_of(command) for command in sys.argv[1:]}))
