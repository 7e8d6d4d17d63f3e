"""How fast this machine computes at the moment, so that limits of CPU time hold on slower and on busy ones.

CPU time is no constant: a core's two threads share it, and clocks differ. So a limit is compared with a known computation
that is measured at the same time.
"""

import re
from pathlib import Path
from time import sleep, thread_time

_REFERENCE_S = 0.0032  # of `_work` on the idle machine for which the limits are stated
_PATTERN = re.compile(r"(\w+)@(\w+)\.com|\d{3,}")
_TEXT = "some words, a12 b@c.de 1234 " * 400


CALM = 0.9
"""The idle share of all processors from which on a benchmark's clock counts: nothing else runs."""


def idle_share(seconds: float = 1.0) -> float:
    """The share of all processors' time that was idle while this waits; it forgets the past, unlike a load average."""
    before = _processor_times()
    sleep(seconds)
    spent = [after - earlier for after, earlier in zip(_processor_times(), before, strict=True)]
    return (spent[3] + spent[4]) / max(1, sum(spent))


def _processor_times() -> list[int]:
    """Linux's counts for all processors: user, nice, system, idle, waiting for disks, interrupts (2), stolen."""
    return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def slowness() -> float:
    """How many times the CPU time of the reference machine this one takes now; at least 1.0."""
    began = thread_time()
    for _ in range(5):
        _work()
    return max(1.0, (thread_time() - began) / 5 / _REFERENCE_S)


def _work() -> int:
    total = sum(match.start() for match in _PATTERN.finditer(_TEXT))
    for i in range(60_000):
        total += i % 7
    return total
