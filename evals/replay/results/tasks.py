"""What the chosen cascade loses and costs on each task, with intervals that allow for looking at many tasks."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.policy.thresholds import NO_TASK
from evals.recording import Example
from evals.replay.simulate import Outcome
from evals.replay.statistics.certify import p_value
from evals.replay.statistics.significance import tango

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

LEVEL = 0.05
"""The probability that the corrected interval of any task misses that task's mean loss."""

LEAST_ROWS = 10
"""Tasks of fewer test rows get no advice."""


def loss_interval(losses: Array, level: float = LEVEL) -> tuple[float, float]:
    """A two-sided interval of a mean loss at confidence 1 - ``level``.

    For whole numbers the score interval of a paired difference (Tango 1998), which keeps its level on few rows and without
    any discordant pair, where a bootstrap has width 0. For fractional losses the betting test inverted (Waudby-Smith &
    Ramdas 2024), which is valid at every n and wider.

    Args:
        losses: (n,), the premium tier's quality less the cascade's, in [-1, 1]; n >= 1.
        level: The probability that the interval misses the mean.
    """
    n, mean = len(losses), float(losses.mean())
    z = NormalDist().inv_cdf(1 - level / 2)
    if np.all(losses == np.round(losses)):
        worse, better = int((losses > 0).sum()), int((losses < 0).sum())

        def excluded(limit: float, sign: int) -> bool:
            return sign * float(tango(worse, better, n, limit)) > z
    else:

        def excluded(limit: float, sign: int) -> bool:
            return p_value(sign * losses, sign * limit, "betting")[0] <= level / 2

    return -_edge(-mean, lambda x: excluded(-x, -1)), _edge(mean, lambda x: excluded(x, 1))


def _edge(mean: float, excluded: Callable[[float], bool]) -> float:
    """The least limit above ``mean`` that is excluded, to 1e-4 and from above; 1 where none is."""
    low, high = mean, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if excluded(middle) else (middle, high)
    return high


def by_task(
    examples: Sequence[Example],
    rows: Rows,
    models: Sequence[str],
    outcome: Outcome,
    premium: str,
    limit: float,
    interval: Callable[[Array, Array], tuple[float, float]],
) -> list[dict[str, Any]]:
    """One entry for each task, on held-out rows, in the order of the tasks' names.

    Args:
        examples: The recording's rows.
        rows: The test rows, m of them.
        models: The cascade's models in order.
        outcome: What the cascade did with the test rows.
        premium: The premium tier's model.
        limit: The mean loss that the promise allows, to which the advice compares.
        interval: Returns the 95 % interval of the mean of a paired difference (of one task, not corrected).

    Returns:
        Entries whose ``corrected_interval`` is of the difference in quality, corrected by Bonferroni: with 95 % confidence
        all tasks' intervals hold at once. ``advice`` is in words; it is based on the test rows, so confirm it on others.
    """
    tasks = np.array([examples[i].task or NO_TASK for i in rows], dtype=object)
    reference = np.array([examples[i].answers[premium]["quality"] for i in rows], dtype=float)
    usd = np.array([examples[i].answers[premium]["cost_usd"] for i in rows], dtype=float)
    names = sorted(set(tasks))
    entries = []
    for task in names:
        at = np.flatnonzero(tasks == task)
        losses = reference[at] - outcome.quality[at]
        low, high = loss_interval(losses, LEVEL / len(names))
        entries.append(
            {
                "task": task,
                "n": len(at),
                "quality": float(outcome.quality[at].mean()),
                "premium_quality": float(reference[at].mean()),
                "difference": -float(losses.mean()),
                "interval": list(interval(outcome.quality[at], reference[at])),
                "corrected_interval": [-high, -low],
                "cost_ratio": _ratio(float(outcome.cost_usd[at].sum()), float(usd[at].sum())),
                "shares": {m: float((outcome.tier[at] == i).mean()) for i, m in enumerate(models)},
                "advice": _advice(losses, (low, high), usd[at] - outcome.cost_usd[at], limit),
            }
        )
    return entries


def _ratio(cost: float, premium: float) -> float | None:
    """None where a cost is unknown, or where the premium tier is free."""
    return cost / premium if premium and np.isfinite(cost) else None


def _advice(losses: Array, interval: tuple[float, float], saving: Array, limit: float) -> str:
    """What to do with a task, from its corrected interval and what the cascade saves on it."""
    low, high = interval
    n = len(losses)
    if n < LEAST_ROWS:
        return "too few rows to judge"
    error = float(saving.std(ddof=1)) / n**0.5
    if low > limit:
        return "send straight to premium: loses more"
    if np.isfinite(error) and float(saving.mean()) <= error and np.any(saving != 0):
        return "send straight to premium: no saving"
    if high <= limit:
        return "keep: the loss is as promised"
    if float(losses.mean()) > limit:
        return "unclear: grade more rows of it"
    return "keep: nothing against it"
