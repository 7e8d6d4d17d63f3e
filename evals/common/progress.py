"""One line on a terminal that says how far a long piece of work has come; nothing under two seconds, nothing in a file."""

import math
import sys
from time import perf_counter

FIRST_AFTER_S = 2.0
EVERY_S = 0.5
WIDTH, LINE = 30, 78


def watched() -> bool:
    """Whether standard error is a terminal, on which one line can be written over the last."""
    return sys.stderr.isatty()


class Progress:
    """``step()`` once for each of ``total`` pieces, then ``end()``; ``rate`` is pieces per second."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done = max(total, 1), what, 0
        self.started = perf_counter()
        # Where standard error is a file or a pipe, every line over the last one would stay.
        self.next, self.spent = FIRST_AFTER_S if watched() else math.inf, 0.0

    def step(self) -> None:
        """One more piece is done."""
        self.done += 1
        spent = perf_counter() - self.started
        if spent >= self.next:
            self.next = spent + EVERY_S
            full = WIDTH * self.done // self.total
            left = spent / self.done * (self.total - self.done)
            bar = "#" * full + "." * (WIDTH - full)
            told = f"{self.what} [{bar}] {self.done:,} of {self.total:,}, {left:.0f} s left"
            # Padded, because the line before may have been longer.
            print("\r" + told.ljust(LINE), end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The work is done; clears the line where one was written."""
        self.spent = perf_counter() - self.started
        if FIRST_AFTER_S < self.next < math.inf:
            print("\r" + " " * LINE + "\r", end="", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Pieces per second of the whole work."""
        return self.total / max(self.spent, 1e-9)
