"""How fast this machine computes at the moment, so that limits of CPU time hold on slower and on busy ones.

CPU time is no constant: a core's two threads share it, and clocks differ. So a limit is compared with a known computation
that is measured at the same time.
"""

import re
from time import thread_time

_REFERENCE_S = 0.0032  # of `_work` on the idle machine for which the limits are stated
_PATTERN = re.compile(r"(\w+)@(\w+)\.com|\d{3,}")
_TEXT = "some words, a12 b@c.de 1234 " * 400


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
