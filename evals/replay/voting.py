"""``final: vote`` for a ladder: how its answers are weighed, fitted on the fit rows, and whether it pays there."""

from itertools import combinations

import numpy as np
import numpy.typing as npt

from cascade.policy.vote_spec import VoteSpec

from .score_table import NO_MEANING
from .simulate import SimulatedCascade

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

EXPONENTS = (1.0, 0.5, 0.25)
# Pseudo-pairs of wrong answers, of which one says the same: as if there were ten alternatives.
PRIOR_PAIRS, PRIOR_COLLISIONS = 10.0, 1.0
MOST_ALTERNATIVES = 1000.0


def alternatives(cascade: SimulatedCascade, rows: Rows) -> float:
    """How many answers to a prompt are plausible, by how often two wrong answers of different tiers say the same.

    If wrong answers are spread evenly over K - 1 alternatives, two of them are the same with probability 1 / (K - 1). Models
    that make the same mistakes seem to have fewer alternatives, so that their agreement counts less.
    """
    pairs, collisions = PRIOR_PAIRS, PRIOR_COLLISIONS
    for one, other in combinations(cascade.tier_outcomes, 2):
        wrong = (one.quality[rows] + other.quality[rows]) == 0.0
        wrong &= ~one.vetoed[rows] & ~other.vetoed[rows]
        wrong &= (one.meaning[rows] != NO_MEANING) & (other.meaning[rows] != NO_MEANING)
        pairs += float(wrong.sum())
        collisions += float((wrong & (one.meaning[rows] == other.meaning[rows])).sum())
    return round(min(MOST_ALTERNATIVES, 1.0 + pairs / collisions), 2)


def fit_vote(cascade: SimulatedCascade, rows: Rows) -> SimulatedCascade:
    """The cascade with ``final: vote``, its answers weighed as was best on ``rows``."""
    return cascade.with_final("vote", _best_vote(cascade, rows)[0])


def _best_vote(cascade: SimulatedCascade, rows: Rows) -> tuple[VoteSpec, Array]:
    """How answers are weighed best on ``rows``, and (m,) the quality of what is returned there where no tier accepts."""
    count = alternatives(cascade, rows)
    surest = cascade.with_final("best").fallback_tier()[rows]
    qualities = [s.quality[rows] for s in cascade.tier_outcomes]
    votes = []
    for exponent in EXPONENTS:
        vote = VoteSpec(alternatives=count, exponent=exponent)
        places = cascade.winners(vote, rows)
        votes.append((vote, np.asarray(np.choose(np.where(places < 0, surest, places), qualities), dtype=np.float64)))
    return max(votes, key=lambda one: float(one[1].mean()))


def quality_at_end(cascade: SimulatedCascade) -> Array:
    """(n,): the quality of the answer that is returned where no tier accepts before the last."""
    return np.asarray(np.choose(cascade.fallback_tier(), [s.quality for s in cascade.tier_outcomes]), dtype=np.float64)


def vote_if_better(cascade: SimulatedCascade, rows: Rows) -> list[tuple[SimulatedCascade, str]]:
    """The cascade with a vote, and why; empty where that is not better by more than its standard error on ``rows``.

    It has to be better than both the last tier's answer and the most confident one.
    """
    if len(cascade.tiers) < 2:
        return []
    vote, quality = _best_vote(cascade, rows)
    for final in ("last", "best"):
        difference = quality - quality_at_end(cascade.with_final(final))[rows]
        if difference.mean() <= difference.std() / np.sqrt(len(difference)):
            return []
    why = "the tiers vote on the answer where none accepts: better on the fit rows than the last and the most confident one"
    return [(cascade.with_final("vote", vote), why)]
