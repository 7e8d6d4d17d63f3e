"""An interval for a mean that covers it at all times at once, from values observed with different probabilities.

For every candidate mean m two test martingales bet that the truth is above it and below it (hedged capital; Waudby-Smith &
Ramdas 2024); m is outside as soon as either reaches 2 / alpha. The increments may be those of prediction-powered inference,
see ``increment``. It assumes that the mean stays the same: after a change, look at a period that begins later.
"""

from collections.abc import Mapping
from math import log, log1p, sinh, sqrt
from typing import Any

from .e_process import checked

GRID_POINTS = 801
LARGEST_STAKE = 0.9  # of the stake that could lose everything
PRIOR_VARIANCE = 0.25
CONTROL_LIMIT = 0.25
"""The most that a prediction moves an increment, as a share of the range of values. It bounds the increments."""


def increment(value: float | None, probability: float, *, floor: float, control: float = 0.0) -> tuple[float, float]:
    """``(x, a)`` of one run, whose mean of ``x - a * m`` is 0 where m is the mean value: a bounded PPI increment.

    A labelled run gives ``w * (value - m) - control * (w - floor)``, with the weight ``w = floor / probability``; another
    ``control * floor``. That is the increment of prediction-powered inference (Angelopoulos et al. 2023; Zrnic & Candes
    2024) times the floor. Its mean does not depend on the control, since the mean of ``w`` is the floor.

    Args:
        value: What was observed; None where the run was not labelled.
        probability: That with which the run was to be labelled, in [floor, 1].
        floor: The smallest such probability of any run, in (0, 1].
        control: How far the run's prediction lies above the mean of earlier ones, times how much predictions count by past
            data; clipped to ``CONTROL_LIMIT`` times the range of values.

    Returns:
        The parts ``x`` and ``a``, both to be given to ``ConfidenceSequence.update``.
    """
    if value is None:
        return control * floor, 0.0
    weight = floor / probability
    return weight * value - control * (weight - floor), weight


class ConfidenceSequence:
    """A confidence interval for a mean in [low, high], valid at every look.

    Args:
        alpha: The probability that it ever misses the mean.
        low: The smallest possible value.
        high: The largest possible value.

    Attributes:
        lower: The lower bound.
        upper: The upper bound.
        n: How many values were observed.
    """

    def __init__(self, alpha: float = 0.05, *, low: float = -1.0, high: float = 1.0) -> None:
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must lie in (0, 1), got {alpha!r}")
        if not low < high:
            raise ValueError(f"low must be less than high, got {low!r} and {high!r}")
        self.alpha, self.lower, self.upper, self.n = alpha, low, high, 0
        self._grid = grid(low, high)
        self._bounds = [bound_of(m, low, high) for m in self._grid]
        self._above, self._below = [0.0] * GRID_POINTS, [0.0] * GRID_POINTS
        self._square, self._sum, self._weight = 0.0, 0.0, 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        """Takes one observed value into account, with a weight in (0, 1] as for ``EProcess.update``."""
        checked(value, weight, self._grid[0], self._grid[-1])
        self.update(weight * value, weight)

    def update(self, x: float, a: float) -> None:
        """Takes one increment ``x - a * m`` into account; ``a`` is 0 for a run without a label."""
        best = stake_of(self._square, self._weight, self.alpha)
        above, below, bounds = self._above, self._below, self._bounds
        for j, m in enumerate(self._grid):
            bet = min(best, LARGEST_STAKE / bounds[j]) * (x - a * m)
            above[j] += log1p(bet)
            below[j] += log1p(-bet)
        if a == 0.0:
            self._square += x * x
            return
        mean = self._sum / self._weight if self._weight else 0.0
        self._square += (x - a * mean) ** 2
        self._sum += x
        self._weight += a
        self.n += 1
        self._narrow()

    def _narrow(self) -> None:
        limit = log(2.0 / self.alpha)
        points = self._grid
        # The first candidate that stays inside; one point outward, since the truth may lie between two.
        inside = [j for j in range(GRID_POINTS) if self._above[j] < limit and self._below[j] < limit]
        if inside:
            self.lower = max(self.lower, points[max(inside[0] - 1, 0)])
            self.upper = min(self.upper, points[min(inside[-1] + 1, GRID_POINTS - 1)])

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and the upper bound."""
        return self.lower, self.upper

    def to_json(self) -> Mapping[str, Any]:
        """The interval as plain data."""
        return {"lower": self.lower, "upper": self.upper, "alpha": self.alpha, "n": self.n}


def stake_of(square: float, weight: float, alpha: float) -> float:
    """The best next bet of a confidence sequence: the predictable mixture of Waudby-Smith & Ramdas (2024, section 3.2).

    Args:
        square: The sum of squared increments so far.
        weight: The sum of the weights so far.
        alpha: The level of the interval.
    """
    return sqrt(2.0 * log(2.0 / alpha) / ((square + PRIOR_VARIANCE) * max(1.0, log1p(weight))))


def bound_of(candidate: float, low: float, high: float) -> float:
    """The farthest that an increment can be from 0 if the mean is ``candidate``."""
    return max(high - candidate, candidate - low) + CONTROL_LIMIT * (high - low)


def grid(low: float, high: float) -> list[float]:
    """Candidate means: evenly spaced where ``low`` is 0 or more, else densest around 0, where losses lie."""
    if low >= 0.0:
        return [low + (high - low) * j / (GRID_POINTS - 1) for j in range(GRID_POINTS)]
    half = GRID_POINTS // 2
    side = [sinh(4.0 * j / half) / sinh(4.0) for j in range(half + 1)]
    return [low * s for s in reversed(side[1:])] + [high * s if high > 0 else 0.0 for s in side]
