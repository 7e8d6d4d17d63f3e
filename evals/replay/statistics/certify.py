"""Which candidate keeps its promise with probability 1 - delta: Learn then Test (Angelopoulos et al. 2021), in sequence.

The candidates and their order come from other rows. They are tested one after the other, each at the full level delta, up
to the first that fails; whatever passed before holds, all at once, with probability 1 - delta over the draw of the rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log, log1p, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from . import significance

Array = npt.NDArray[np.float64]

METHODS = {
    "binomial": "exact binomial test, fixed sequence",
    "paired": "exact paired test, fixed sequence",
    "betting": "betting test (WSR), fixed sequence",
    "hoeffding_bentkus": "Hoeffding-Bentkus, fixed sequence",
}


def p_value(losses: Array, limit: float, method: str = "auto", *, paired: bool = True) -> tuple[float, str]:
    """The p-value of the hypothesis "the mean loss exceeds ``limit``", and the test that gave it.

    Args:
        losses: (n,), in [-1, 1]: the premium tier's quality less the cascade's; or in [0, 1] where ``paired`` is False.
        limit: The largest mean loss that the promise allows.
        method: A name in ``METHODS``, or "auto": the exact test for whole numbers, betting for all others.
        paired: Whether losses are differences that may be negative. The test must not depend on whether one happens to be
            negative in these rows: choosing between two valid tests by the data is not a valid test.
    """
    n = len(losses)
    low = float(losses.min(initial=0.0))
    ternary = bool(np.all(losses == np.round(losses)))
    if method == "auto":
        exact = "paired" if paired or limit <= 0 else "binomial"
        method = exact if ternary and n <= significance.PAIRED_LIMIT else "betting"
    if method == "binomial":
        return significance.binomial(int(losses.sum()), n, limit), method
    if method == "paired":
        if limit <= 0:
            return significance.betting((1.0 + losses) / 2.0, (1.0 + limit) / 2.0), "betting"
        return significance.paired(int((losses > 0).sum()), int((losses < 0).sum()), n, limit), method
    # Differences are moved to [0, 1]; losses that are never below 0 are there already.
    values, bound = (losses, limit) if low >= 0 and method != "hoeffding_bentkus" else ((1 + losses) / 2, (1 + limit) / 2)
    if method == "hoeffding_bentkus":
        return significance.hoeffding_bentkus(float(values.mean()) if n else 1.0, n, bound), method
    return significance.betting(values, bound), method


@dataclass(frozen=True, slots=True)
class CandidateTest:
    """One candidate's test: mean loss on n rows and the p-value of "the promise is broken"."""

    loss: float
    p_value: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What was proved. ``position`` is the last candidate of the sequence that passed, -1 where the first failed.

    ``needed_n``: roughly how many certification rows the next or first candidate would have needed; None where it passed or
    where no number would do. ``sequences``: how many were tested side by side; ``tests`` are those of one, at ``level``.
    """

    certified: bool
    limit: float
    delta: float
    method: str
    n: int
    position: int
    tests: tuple[CandidateTest, ...]
    needed_n: int | None
    sequences: int = 1
    level: float | None = None

    @property
    def p_value(self) -> float:
        """Of the chosen candidate; where none passed, of the first one, which failed; 1 where nothing was tested."""
        return self.tests[max(self.position, 0)].p_value if self.tests else 1.0

    @property
    def method_words(self) -> str:
        """The name of the test, and how many sequences were tested side by side."""
        words = METHODS.get(self.method, self.method)
        return words if self.sequences == 1 else words.replace("sequence", f"sequence, one of {self.sequences} side by side")

    def to_json(self) -> dict[str, Any]:
        """The certificate as plain data."""
        return {
            "certified": self.certified,
            "max_loss": self.limit,
            "delta": self.delta,
            "method": self.method_words,
            "n": self.n,
            "p_value": self.p_value,
            "tests": len(self.tests),
            "needed_n": None if self.certified else self.needed_n,
            **({} if self.sequences == 1 else {"sequences": self.sequences, "level": self.level}),
        }


def fixed_sequence(
    losses: Sequence[Array], limit: float, delta: float, method: str = "auto", *, paired: bool = True
) -> Certificate:
    """Tests the candidates' losses, each (n,), in order at level ``delta`` until one fails.

    The losses' rows must not have helped to choose the candidates or their order. Valid for any order and any dependence
    between the tests: the first true null hypothesis is rejected with probability at most delta, and what comes after it is
    tested only then.
    """
    tests: list[CandidateTest] = []
    method_used = method
    for loss in losses:
        p, method_used = p_value(loss, limit, method, paired=paired)
        tests.append(CandidateTest(float(loss.mean()) if len(loss) else 1.0, p, p <= delta))
        if not tests[-1].passed:
            break
    position = sum(t.passed for t in tests) - 1
    n = len(losses[0]) if losses else 0
    failed = losses[len(tests) - 1] if tests and not tests[-1].passed else None
    return Certificate(
        certified=position >= 0,
        limit=limit,
        delta=delta,
        method=method_used,
        n=n,
        position=position,
        tests=tuple(tests),
        needed_n=rows_needed(failed, limit, delta, paired=paired) if failed is not None else None,
    )


def check_in_order(pairs: Iterable[tuple[Array, float]], delta: float) -> list[tuple[CandidateTest, str]]:
    """Tests pairs of paired losses, each (n,), and a limit, each at level ``delta``, up to the first that fails.

    The order must be fixed without these rows. With probability 1 - ``delta`` every pair that passed is true, whatever the
    limits and however the pairs depend on one another: for one false pair to pass, the first false one must be rejected.

    Returns:
        The tests in order, the last of which may have failed, each with its method.
    """
    tests: list[tuple[CandidateTest, str]] = []
    for losses, limit in pairs:
        p, method = p_value(losses, limit)
        tests.append((CandidateTest(float(losses.mean()), p, p <= delta), method))
        if p > delta:
            break
    return tests


def rows_needed(losses: Array, limit: float, delta: float, power: float = 0.8, *, paired: bool = True) -> int | None:
    """Roughly how many rows it would take to certify losses like these with the given power; None: no number would do.

    From the normal approximation; never fewer than ``least_rows``.
    """
    mean, spread = float(losses.mean()), float(losses.std())
    if not limit > max(mean, 0.0):
        return None
    z = NormalDist().inv_cdf(1 - delta) + NormalDist().inv_cdf(power)
    return max(
        ceil((z * max(spread, sqrt(limit * (1 - limit))) / (limit - mean)) ** 2), least_rows(limit, delta, paired=paired)
    )


@lru_cache(maxsize=256)
def least_rows(limit: float, delta: float, *, paired: bool = True) -> int:
    """How many rows certify a mean loss of at most ``limit`` if every row's loss is 0; with gains fewer may do.

    For losses that are never negative this is (1 - limit)^n <= delta. For paired differences it is the least n whose
    p-value without a single discordant pair is at most delta, which takes a few rows more.
    """
    if not 0 < limit < 1:
        return 1
    binomial = ceil(log(delta) / log1p(-limit))
    if not paired:
        return binomial
    low, high = binomial - 1, 2 * binomial
    while significance.paired(0, 0, high, limit) > delta:
        low, high = high, 2 * high
        if high > significance.PAIRED_LIMIT:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if significance.paired(0, 0, middle, limit) <= delta else (middle, high)
    return high
