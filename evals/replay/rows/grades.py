"""Checks whether the graded rows are a sample of the rows that every tier answered.

Feedback grades the answer that was returned, and every answer with the same text. In a journal, rows on which the tiers
agree are therefore graded, and rows on which they differ, where a cascade gains or loses, are not.
"""

from collections.abc import Sequence
from math import exp, lgamma

from evals.recording import Example

from .input_rows import ReplayError
from .sampling import FIELD

LEVEL = 1e-3
"""The probability that rows graded at random are refused."""


def check_grades(examples: Sequence[Example], tiers: Sequence[str]) -> None:
    """Raises ReplayError where being graded depends on whether the tiers gave the same answer.

    Where some rows were drawn at random, only those are checked, since no others are used.

    Args:
        examples: The rows of the recording.
        tiers: The models.
    """
    complete = [e for e in examples if all(e.answers.get(tier) is not None for tier in tiers)]
    sample = [e for e in complete if e.raw.get(FIELD) is not None]
    complete = sample or complete
    graded = [e for e in complete if all(e.answers[tier].get("quality") is not None for tier in tiers)]
    alike = {id(e) for e in complete if len({str(e.answers[tier].get("text", "")).strip() for tier in tiers}) == 1}
    n, k = len(complete), len(graded)
    if sample and not graded:
        raise ReplayError(
            f"none of the {n:,} rows that were drawn at random is graded for every tier, and no other rows are a sample of "
            "the traffic. Grade them: cascade grade RECORDING --grader NAME"
        )
    if len(tiers) < 2 or not 0 < k < n:
        return
    both = sum(id(e) in alike for e in graded)
    if min(_tail(both, n, len(alike), k), _tail(k - both, n, n - len(alike), k)) > LEVEL / 2:
        return
    others = len(alike) - both
    raise ReplayError(
        f"{n - k:,} of the {n:,} rows that every tier answered are not graded, and they are not like the others: all tiers "
        f"gave the same answer in {100 * both / k:.0f} % of the graded rows, in {100 * others / (n - k):.0f} % of the rest. "
        "Feedback grades the answer that was returned, so that rows on which the tiers differ stay ungraded; thresholds "
        "tuned on the graded ones would be biased. Grade the rest: cascade grade RECORDING --grader NAME"
    )


def _tail(seen: int, n: int, marked: int, sample: int) -> float:
    """P(at least ``seen`` marked) where ``sample`` of ``n`` rows are drawn at random, of which ``marked`` are marked."""

    def log_choose(a: int, b: int) -> float:
        return lgamma(a + 1) - lgamma(b + 1) - lgamma(a - b + 1)

    whole = log_choose(n, sample)
    counts = range(max(seen, sample - (n - marked)), min(marked, sample) + 1)
    return min(1.0, sum(exp(log_choose(marked, i) + log_choose(n - marked, sample - i) - whole) for i in counts))
