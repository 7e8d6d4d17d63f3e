"""Several fixed sequences of candidates tested side by side, with one level delta for all: weighted Holm over sequences.

Each sequence has a share of delta and is tested like any fixed sequence, up to its first failure. One whose candidates have
all passed gives its share to the others, in proportion to theirs, and what failed there is tested again at the higher level
(Holm 1979; fixed sequences as one graph: Bretz et al. 2009).

Why at most delta: let T be the sequences that hold a false candidate, one that breaks the promise. Up to the first false
candidate that passes, none of T is finished; so the first false candidate of sequence c in T is tested at most at level
delta * share_c / (sum of the shares of T), and these levels add up to delta. That holds for any order within the sequences
and any dependence between the tests.

Some sequences may be fixed before any row is read, and be tested on all rows, also on those that chose the others. How much
the chosen ones give away depends on those rows, so they give nothing to the fixed ones, which are tested as if no chosen one
ever finished: at delta * share_c / (the shares of the unfinished fixed ones and of all chosen ones). The fixed ones give to
all. Let F be the shares of the fixed ones in T and C those of all chosen ones: the levels of the fixed ones in T add up to
at most delta * F / (F + C), and, whatever rows chose them, those of the chosen ones in T to delta * C / (F + C).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .certify import CandidateTest, Certificate, p_value, rows_needed

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTests:
    """The tests of one sequence.

    Attributes:
        share: Of delta, at first.
        level: At which its last test was made.
        tests: In order; all but perhaps the last passed.
        method: The name of the test.
    """

    share: float
    level: float
    tests: tuple[CandidateTest, ...]
    method: str

    @property
    def n_passed(self) -> int:
        """How many candidates passed."""
        return sum(test.passed for test in self.tests)


def check_side_by_side(
    sequences: Sequence[Sequence[Array]],
    shares: Sequence[float],
    limit: float,
    delta: float,
    *,
    paired: bool = True,
    fixed: Sequence[bool] | None = None,
) -> list[SequenceTests]:
    """Tests the candidates of every sequence: all that pass keep the promise, with probability 1 - ``delta``.

    Args:
        sequences: For each sequence its candidates' losses, each (n,); see ``p_value``. The rows must not have helped to
            choose its candidates, their order or its share.
        shares: Of each sequence, above 0.
        limit: The largest mean loss.
        delta: The probability that any candidate that passes breaks the promise.
        paired: Whether losses are differences that may be negative.
        fixed: Which sequences, and their shares, were fixed before any row was read, so that they may be tested on rows that
            chose the others; None: all sequences are tested on rows that chose none of them.

    Raises:
        ValueError: a share is not above 0, or there are not as many as sequences.
    """
    fixed = [False] * len(sequences) if fixed is None else fixed
    if len(shares) != len(sequences) or not all(share > 0 for share in shares):
        raise ValueError(f"{len(sequences)} sequences need as many shares above 0; got {tuple(shares)}")
    tests: list[list[CandidateTest]] = [[] for _ in sequences]
    methods, levels = ["auto"] * len(sequences), [0.0] * len(sequences)
    unfinished = [c for c, candidates in enumerate(sequences) if candidates]
    of_chosen = sum(shares[c] for c in range(len(sequences)) if not fixed[c])
    n_before = -1
    while n_before != len(unfinished):
        n_before = len(unfinished)
        of_fixed = sum(shares[c] for c in unfinished if fixed[c])
        left = sum(shares[c] for c in unfinished if not fixed[c])
        for c in unfinished:
            share = shares[c] if fixed[c] else of_chosen * shares[c] / left
            levels[c] = delta * share / (of_fixed + of_chosen)
            methods[c] = _go_on(tests[c], sequences[c], limit, levels[c], paired) or methods[c]
        unfinished = [c for c in unfinished if len(tests[c]) < len(sequences[c]) or not tests[c][-1].passed]
    return [
        SequenceTests(share=share, level=level, tests=tuple(of_sequence), method=method)
        for share, level, of_sequence, method in zip(shares, levels, tests, methods, strict=True)
    ]


def _go_on(tests: list[CandidateTest], candidates: Sequence[Array], limit: float, level: float, paired: bool) -> str | None:
    """Goes on with a sequence at ``level``, first with the candidate that failed at a lower one; the method of the test."""
    method = None
    if tests and not tests[-1].passed:
        failed = tests.pop()
        tests.append(CandidateTest(failed.loss, failed.p_value, failed.p_value <= level))
        if not tests[-1].passed:
            return None
    for losses in candidates[len(tests) :]:
        p, method = p_value(losses, limit, paired=paired)
        tests.append(CandidateTest(float(losses.mean()), p, p <= level))
        if not tests[-1].passed:
            break
    return method


def as_certificate(
    proofs: Sequence[SequenceTests],
    sequences: Sequence[Sequence[Array]],
    limit: float,
    delta: float,
    *,
    at: tuple[int, int] | None,
    paired: bool = True,
) -> Certificate:
    """The certificate of one candidate, or of none.

    Args:
        proofs: What ``check_side_by_side`` says of the sequences.
        sequences: Their candidates' losses.
        limit: The largest mean loss.
        delta: The probability that what passes breaks the promise.
        at: The sequence and the place of the candidate; None: nothing is certified, and the last sequence's tests are kept.
        paired: Whether losses are differences that may be negative.
    """
    which, position = at or (len(proofs) - 1, -1)
    proof = proofs[which]
    failed = sequences[which][len(proof.tests) - 1] if proof.tests and not proof.tests[-1].passed else None
    return Certificate(
        certified=at is not None,
        limit=limit,
        delta=delta,
        method=proof.method,
        n=len(sequences[which][0]) if sequences[which] else 0,
        position=position,
        tests=proof.tests,
        needed_n=rows_needed(failed, limit, delta, paired=paired) if failed is not None else None,
        sequences=len(proofs),
        level=proof.level,
    )
