"""The last ten minutes in steps of five seconds: the data of the dashboard's line charts."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

STEP_S = 5
STEPS = 120
_MAX_LATENCIES = 2000  # latencies of a step over which percentiles are computed


@dataclass(slots=True)
class _Step:
    """The runs that ended in one step; ``latencies`` in seconds, the first _MAX_LATENCIES of them."""

    number: int
    runs: int = 0
    usd: float = 0.0
    premium_usd: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Timeseries:
    """Runs by the step in which they ended. It belongs to one event loop."""

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque(maxlen=STEPS)

    def add(self, now: float, usd: float | None, premium_usd: float | None, latency_s: float | None) -> None:
        """Adds a run that ended at ``now`` (Unix seconds); an unknown value (None) adds nothing."""
        number = int(now // STEP_S)
        if not self._steps or self._steps[-1].number < number:
            self._steps.append(_Step(number))
        step = self._steps[-1]
        step.runs += 1
        step.usd += usd or 0.0
        step.premium_usd += premium_usd or 0.0
        if latency_s is not None and len(step.latencies) < _MAX_LATENCIES:
            step.latencies.append(latency_s)

    def columns(self, now: float) -> dict[str, Any]:
        """A column for each value, the oldest step first and the current one last; null: nothing ended in it."""
        last = int(now // STEP_S)
        by_number = {step.number: step for step in self._steps}
        steps = [by_number.get(number) for number in range(last - STEPS + 1, last + 1)]
        return {
            "step_s": STEP_S,
            "at": [number * STEP_S for number in range(last - STEPS + 1, last + 1)],
            "runs": [step.runs if step else 0 for step in steps],
            "usd": [step.usd if step else 0.0 for step in steps],
            "premium_usd": [step.premium_usd if step else 0.0 for step in steps],
            "p50_s": [_quantile(step, 0.5) for step in steps],
            "p90_s": [_quantile(step, 0.9) for step in steps],
        }


def _quantile(step: _Step | None, share: float) -> float | None:
    latencies = sorted(step.latencies) if step else []
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))] if latencies else None
