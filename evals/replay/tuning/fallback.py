"""Sequences of candidates to be tested side by side, and what share of delta each gets: the lowest predicted cost decides.

A ladder that promises most may fail at its first test: one that does not end in the premium tier, that has few thresholds to
choose from, or whose figures on the fit rows are too good to be true. A second sequence, of a safer ladder, is then what is
used. It costs the first one a part of delta, so it takes part only where the tests, simulated with what the fit rows
predict, come out cheaper with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evals.replay.sweep_result import Candidate

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS = {1: 1, 2: 10}
"""Shares of delta are whole numbers of this many parts, by the number of sequences; else of ``COARSE`` ones."""
COARSE = 5
MOST_SEQUENCES = 4
DRAWS = 512
SHARED = 0.5
"""The part of the variance of the tests' noise that sequences have in common: they are tested on the same rows."""
SAFE_START = 0.95
LEAST_SAVING = 0.0025
"""The share of the premium tier's cost that any division of delta must be predicted to save."""
WIDE = (2.4, 2.0, 1.6)
"""Margins in standard errors of the tests' rows, at which a sequence may end."""
_STREAM = 13


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateSequence:
    """Candidates of one ladder in the order of their tests.

    Attributes:
        candidates: From the safest to the cheapest.
        notes: On how the ladder was chosen.
        share: Of delta; 1 where it is the only sequence.
        doubt: By how many standard errors less the ladder is trusted to keep the promise than predicted.
        extra_usd: What the ladder is expected to cost more than its sweep predicts, in USD a row.
    """

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    share: float = 1.0
    doubt: float = 0.0
    extra_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is known before the tests: the promise, the rows, and what the premium tier alone costs in USD."""

    limit: float
    delta: float
    n: int
    n_fit: int
    premium_usd: float


def with_shares(sequences: Sequence[CandidateSequence], conditions: Conditions) -> list[CandidateSequence]:
    """The sequences that are worth testing, each with its share of delta: of least predicted cost, of equal ones the fewest.

    All but the first may end early, at candidates that are predicted to pass by a wide margin: then they are likely to
    finish, and what they had of delta goes to the others.
    """
    first, *others = [each for each in sequences if each.candidates]
    best, least = [first], expected_usd([first], [1.0], conditions)
    for shares in sorted(_divisions(1 + len(others)), key=np.count_nonzero):
        options = [_shortened(e, conditions) if share > 0 else [e] for e, share in zip(others, shares[1:], strict=True)]
        for lengths in product([first], *options):
            usd = expected_usd(lengths, shares, conditions)
            if usd < least - (LEAST_SAVING * conditions.premium_usd if best == [first] else 1e-12):
                used = [(each, share) for each, share in zip(lengths, shares, strict=True) if share > 0]
                least, best = usd, [replace(each, share=share) for each, share in used]
    _margins.cache_clear()  # its keys hold whole ladders
    return best


def begins_safe(sequence: CandidateSequence, conditions: Conditions) -> bool:
    """Whether the first candidate is predicted to pass with a probability of ``SAFE_START`` at the full delta."""
    return bool(_n_passed(sequence, conditions.delta, conditions, np.array([NormalDist().inv_cdf(SAFE_START)]))[0])


def _shortened(sequence: CandidateSequence, conditions: Conditions) -> list[CandidateSequence]:
    """The sequence, and its beginnings whose candidates are predicted to keep the promise by wide margins."""
    margins = [(conditions.limit - c.loss) / (c.variance / max(conditions.n, 1)) ** 0.5 for c in sequence.candidates]
    lengths = {sum(margin >= least for margin in margins) for least in WIDE} | {len(margins)}
    return [replace(sequence, candidates=sequence.candidates[:length]) for length in sorted(lengths) if length]


@lru_cache(maxsize=8)
def _divisions(n: int) -> tuple[tuple[float, ...], ...]:
    """Every way to divide delta among ``n`` sequences, those that give much to the first ones first."""
    most = PARTS.get(n, COARSE)
    whole = [parts for parts in product(range(most, -1, -1), repeat=n) if sum(parts) == most]
    return tuple(tuple(part / most for part in parts) for parts in whole)


def expected_usd(sequences: Sequence[CandidateSequence], shares: Sequence[float], conditions: Conditions) -> float:
    """The mean USD a row to expect once the sequences are tested side by side: the premium tier's, where none passes.

    A candidate passes where its predicted margin is above the noise of the test and of the prediction. That noise is the
    same for all candidates of a ladder, and partly the same for all ladders.
    """
    used = [(each, share) for each, share in zip(sequences, shares, strict=True) if share > 0]
    noise = _noise()[: len(sequences)][[share > 0 for share in shares]]
    counts: list[Ints] = [np.zeros(DRAWS, np.int64) for _ in used]
    for _ in used:  # each round some may finish, and give their share to the others
        finished = np.array([count == len(each.candidates) for count, (each, _) in zip(counts, used, strict=True)])
        total = sum(share * ~done for done, (_, share) in zip(finished, used, strict=True))
        for i, (each, share) in enumerate(used):
            levels = conditions.delta * share / np.where(finished[i], np.inf, np.maximum(total, 1e-12))
            for level in np.unique(levels[~finished[i]]):
                at = (levels == level) & ~finished[i]
                counts[i][at] = _n_passed(each, float(level), conditions, noise[i][at])
    usd = np.full(DRAWS, conditions.premium_usd)
    for count, (each, _) in zip(counts, used, strict=True):
        cheapest = np.minimum.accumulate([conditions.premium_usd, *(c.usd + each.extra_usd for c in each.candidates)])
        usd = np.minimum(usd, cheapest[count])
    return float(usd.mean())


def _n_passed(sequence: CandidateSequence, level: float, conditions: Conditions, noise: Array) -> Ints:
    """(draws,): how many candidates pass in a row at ``level``."""
    falling = _margins(sequence, level, conditions)
    return np.asarray(len(falling) - np.searchsorted(falling[::-1], noise), dtype=np.int64)


@lru_cache(maxsize=256)
def _margins(sequence: CandidateSequence, level: float, conditions: Conditions) -> Array:
    """(candidates,): the noise up to which each candidate passes at ``level``, and all before it."""
    loss, variance = (np.array([getattr(c, name) for c in sequence.candidates]) for name in ("loss", "variance"))
    needed = NormalDist().inv_cdf(1 - level) * np.sqrt(variance / max(conditions.n, 1))
    error = np.sqrt(variance * (1 / max(conditions.n, 1) + 1 / max(conditions.n_fit, 1)))
    return np.asarray(np.minimum.accumulate((conditions.limit - loss - needed) / error - sequence.doubt))


@lru_cache(maxsize=1)
def _noise() -> Array:
    """(``MOST_SEQUENCES``, DRAWS): standard normal noise of the tests of each sequence, the same in every comparison."""
    rng = np.random.default_rng(_STREAM)
    common, own = rng.standard_normal(DRAWS), rng.standard_normal((MOST_SEQUENCES, DRAWS))
    return np.asarray(SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own)
