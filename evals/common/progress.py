"""Progress lines on standard error: one line on a terminal, written over the last one."""

import math
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import TextIO

FIRST_AFTER_S = 2.0
EVERY_S = 0.5
WIDTH, LINE = 30, 78
_EVERY_LOG_LINE_S, _RATE_WINDOW_S, _RECORDING_WIDTH = 30.0, 30.0, 24


def watched() -> bool:
    """Whether standard error is a terminal, on which one line can be written over the last."""
    return sys.stderr.isatty()


def bar(done: int, total: int, width: int) -> str:
    """A progress bar in brackets."""
    full = width * done // max(total, 1)
    return f"[{'#' * full}{'.' * (width - full)}]"


def duration(seconds: float) -> str:
    """A duration as text, in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


class Progress:
    """The progress of a computation: nothing in the first two seconds, and nothing where standard error is a file.

    Call ``step()`` for each piece of work, or with the number of several, and ``end()`` at the end.

    Attributes:
        total: How many pieces of work there are, at least 1.
        done: How many of them are done.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done = max(total, 1), what, 0
        self.started = perf_counter()
        # Where standard error is a file or a pipe, every line over the last one would stay.
        self.next, self.spent = FIRST_AFTER_S if watched() else math.inf, 0.0

    def step(self, pieces: int = 1) -> None:
        """Counts more pieces of work that are done."""
        self.done += pieces
        spent = perf_counter() - self.started
        if spent >= self.next:
            self.next = spent + EVERY_S
            left = spent / self.done * (self.total - self.done)
            line = f"{self.what} {bar(self.done, self.total, WIDTH)} {self.done:,} of {self.total:,}, {duration(left)} left"
            # Padded, because the line before may have been longer.
            print("\r" + line.ljust(LINE), end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Ends the measurement; clears the line where one was written."""
        self.spent = perf_counter() - self.started
        if FIRST_AFTER_S < self.next < math.inf:
            print("\r" + " " * LINE + "\r", end="", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Pieces per second over the whole work."""
        return self.total / max(self.spent, 1e-9)


class RecordingProgress:
    """The progress of a recording, with its rate and cost; in a log file a whole line every half minute.

    Call ``step()`` for each answer recorded; ``show()`` writes the line where it is time to.

    Attributes:
        total: How many answers there will be.
        done: How many there are, those of earlier runs included.
    """

    def __init__(self, total: int, done: int, stream: TextIO | None = None) -> None:
        self.total, self.done = total, done
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self._every_s = EVERY_S if self.terminal else _EVERY_LOG_LINE_S
        started = monotonic()
        self._next = started + self._every_s
        self._marks: deque[tuple[float, int]] = deque([(started, done)])
        self._written = False

    def step(self) -> None:
        """Counts one more answer."""
        self.done += 1

    def show(self, spent_usd: float, incomplete: bool, waits: Sequence[str] = ()) -> None:
        """Writes the line if it is time to.

        Args:
            spent_usd: The known cost so far.
            incomplete: Whether the cost of some answers is unknown.
            waits: What the recording is waiting for, as text.
        """
        now = monotonic()
        if now < self._next:
            return
        self._next = now + self._every_s
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW_S:
            self._marks.popleft()
        line = "; ".join((self.line(now, spent_usd, incomplete), *waits))
        if self.terminal:
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K"  # a longer one could not be written over
        print(line, end="" if self.terminal else "\n", file=self.stream, flush=True)
        self._written = True

    def line(self, now: float, spent_usd: float, incomplete: bool) -> str:
        """The line: bar, count, answers per second over the last half minute, time left, cost."""
        since, before = self._marks[0]
        rate = (self.done - before) / max(now - since, 1e-9)
        left = duration((self.total - self.done) / rate) if rate > 0 else "unknown time"
        cost = f"{'over ' if incomplete else ''}${spent_usd:.4f}"
        progress_bar = bar(self.done, self.total, _RECORDING_WIDTH)
        return f"{progress_bar} {self.done:,} of {self.total:,}, {rate:,.1f} answers/s, {left} left, {cost} spent"

    def end(self) -> None:
        """Clears the line."""
        if self._written and self.terminal:
            print("\r\x1b[K", end="", file=self.stream, flush=True)
