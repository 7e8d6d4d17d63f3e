"""What a person sees of a recording under way: one line with rate, time left and money spent."""

import shutil
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TextIO

_EVERY_S, _EVERY_LINE_S, _WIDTH, _WINDOW_S = 0.5, 30.0, 24, 30.0


class Progress:
    """``step()`` for each answer recorded; ``show`` writes the line, on a terminal over the last one, else seldom."""

    def __init__(self, total: int, done: int, stream: TextIO | None = None) -> None:
        self.total, self.done, self.began_with = total, done, done
        self.stream = sys.stderr if stream is None else stream
        self.terminal = self.stream.isatty()
        self.started = monotonic()
        self._next = self.started + (_EVERY_S if self.terminal else _EVERY_LINE_S)
        self._marks: deque[tuple[float, int]] = deque([(self.started, done)])
        self._shown = False

    def step(self) -> None:
        """One more is done."""
        self.done += 1

    def show(self, spent_usd: float, unknown: bool, waits: Sequence[str] = ()) -> None:
        """Writes the line if it is time to; ``unknown`` says that some costs are not known, ``waits`` what is waited for."""
        now = monotonic()
        if now < self._next:
            return
        self._next = now + (_EVERY_S if self.terminal else _EVERY_LINE_S)
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        line = "; ".join((self.line(now, spent_usd, unknown), *waits))
        if self.terminal:
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K"  # a longer one could not be written over
        print(line, end="" if self.terminal else "\n", file=self.stream, flush=True)
        self._shown = True

    def line(self, now: float, spent_usd: float, unknown: bool) -> str:
        """The line: bar, count, answers a second over the last half minute, time left, money."""
        since, before = self._marks[0]
        rate = (self.done - before) / max(now - since, 1e-9)
        full = _WIDTH * self.done // max(self.total, 1)
        left = duration((self.total - self.done) / rate) if rate > 0 else "unknown time"
        money = f"{'over ' if unknown else ''}${spent_usd:.4f}"
        bar = "#" * full + "." * (_WIDTH - full)
        return f"[{bar}] {self.done:,} of {self.total:,}, {rate:,.1f} answers/s, {left} left, {money} spent"

    def end(self) -> None:
        """Clears the line."""
        if self._shown and self.terminal:
            print("\r\x1b[K", end="", file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
