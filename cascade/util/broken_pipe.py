"""Ends a command silently when its reader has gone, as in ``... | head``."""

import os
import sys
from collections.abc import Callable


def quietly(main: Callable[[], int]) -> int:
    """The exit status of ``main``; 0 where its reader has gone."""
    status = 0
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()  # here, where it can be caught, not when the interpreter ends
    except BrokenPipeError:
        # What is still to be written has nowhere to go; the interpreter would try once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
