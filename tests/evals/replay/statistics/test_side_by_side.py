"""Sequences tested side by side: shares of delta, what passes on when one is finished, and that the level is kept."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.replay.statistics.certify import fixed_sequence
from evals.replay.statistics.side_by_side import as_certificate, check_side_by_side

Array = npt.NDArray[np.float64]
N, LIMIT, DELTA = 100, 0.1, 0.1
COUNTS = st.lists(st.integers(0, 14), max_size=6)


def losses(worse: int) -> Array:
    """``N`` losses of 0 or 1."""
    return np.concatenate([np.ones(worse), np.zeros(N - worse)])


def passed(
    sequences: list[list[int]], shares: list[float], delta: float = DELTA, fixed: list[bool] | None = None
) -> list[int]:
    """How many candidates of each sequence pass; each is a count of losses."""
    tested = [[losses(k) for k in each] for each in sequences]
    proofs = check_side_by_side(tested, shares, LIMIT, delta, paired=False, fixed=fixed)
    return [proof.n_passed for proof in proofs]


@given(COUNTS, st.sampled_from([0.01, 0.1, 0.3]))
def test_one_sequence_is_a_fixed_sequence(counts: list[int], delta: float) -> None:
    """The same tests with the same results, whatever its share."""
    sequence = [losses(k) for k in counts]
    alone = fixed_sequence(sequence, LIMIT, delta, paired=False)
    [proof] = check_side_by_side([sequence], [0.3], LIMIT, delta, paired=False)
    assert proof.tests == alone.tests
    assert proof.n_passed == alone.position + 1
    at = (0, alone.position) if alone.certified else None
    assert as_certificate([proof], [sequence], LIMIT, delta, at=at, paired=False).to_json() == alone.to_json()


@given(st.lists(COUNTS, min_size=2, max_size=4), st.data())
def test_shares_bound_what_passes(sequences: list[list[int]], data: st.DataObject) -> None:
    """At least what passes at a sequence's own share, at most what passes at all of delta; each test but the last passed."""
    shares = [data.draw(st.sampled_from([0.1, 0.25, 0.5])) for _ in sequences]
    total = sum(share for share, each in zip(shares, sequences, strict=True) if each)
    for each, share, n in zip(sequences, shares, passed(sequences, shares), strict=True):
        assert n <= passed([each], [1.0])[0]
        assert n >= (passed([each], [1.0], DELTA * share / total)[0] if each else 0)
    proofs = check_side_by_side([[losses(k) for k in s] for s in sequences], shares, LIMIT, DELTA, paired=False)
    for proof in proofs:
        assert all(test.passed for test in proof.tests[:-1])
        assert all(test.passed == (test.p_value <= proof.level) for test in proof.tests[-1:])


@given(st.lists(COUNTS, min_size=2, max_size=4), st.permutations(range(4)))
def test_the_order_of_the_sequences_is_nothing(sequences: list[list[int]], order: list[int]) -> None:
    """What passes of a sequence does not depend on its place."""
    places = [i for i in order if i < len(sequences)]
    n = passed(sequences, [0.1 * (i + 1) for i in range(len(sequences))])
    again = passed([sequences[i] for i in places], [0.1 * (i + 1) for i in places])
    assert again == [n[i] for i in places]


def test_a_finished_sequence_gives_its_share_to_the_others() -> None:
    """What fails at half of delta passes at all of it, once the other sequence has nothing left to test."""
    between = next(k for k in range(N) if 0.05 < fixed_sequence([losses(k)], LIMIT, 1.0, paired=False).p_value <= 0.1)
    assert passed([[between], [0]], [0.5, 0.5]) == [1, 1]
    assert passed([[between], [0, N]], [0.5, 0.5]) == [0, 1]
    assert passed([[between], []], [0.5, 0.5]) == [1, 0]


def test_a_chosen_sequence_gives_nothing_to_a_fixed_one() -> None:
    """A fixed sequence gives its share to all others, a chosen one to chosen ones only."""
    between = next(k for k in range(N) if 0.05 < fixed_sequence([losses(k)], LIMIT, 1.0, paired=False).p_value <= 0.1)
    assert passed([[0], [between]], [0.5, 0.5], fixed=[False, True]) == [1, 0]
    assert passed([[between], [0]], [0.5, 0.5], fixed=[False, True]) == [1, 1]
    assert passed([[0], [between]], [0.5, 0.5], fixed=[True, True]) == [1, 1]
    assert passed([[0], [between], [N]], [0.2, 0.2, 0.6], fixed=[False, False, True]) == [1, 0, 0]
    assert passed([[0], [between], [0]], [0.2, 0.2, 0.6], fixed=[False, False, True]) == [1, 1, 1]


@pytest.mark.parametrize("shares", [[0.5], [0.5, 0.0], [1.0, -0.1]])
def test_every_sequence_needs_a_share(shares: list[float]) -> None:
    """One without a share would be tested at the level 0, and hold back what it could give."""
    with pytest.raises(ValueError, match="shares above 0"):
        check_side_by_side([[losses(0)], [losses(0)]], shares, LIMIT, DELTA)


# Risks of the candidates of each sequence; the limit is 0.1.
WORLDS = {
    "all false": ([[0.1001, 0.1001], [0.1001], [0.1001, 0.1001]], [0.5, 0.3, 0.2]),
    "one without a false one": ([[0.01, 0.02], [0.1001, 0.2]], [0.9, 0.1]),
    "false after good ones": ([[0.02, 0.1001], [0.03, 0.04, 0.1001, 0.02]], [0.5, 0.5]),
}


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "same rows"])
@pytest.mark.parametrize("name", WORLDS)
def test_the_level_is_kept(name: str, shared: bool) -> None:
    """Of 1,500 draws at most a share delta has any candidate pass whose risk is above the limit; and some have."""
    from scipy.stats import binomtest

    sequences, shares = WORLDS[name]
    rng, draws, broken = np.random.default_rng(11), 1500, 0
    for _ in range(draws):
        u = rng.random(N)
        tested = [[((u if shared else rng.random(N)) < r).astype(np.float64) for r in each] for each in sequences]
        proofs = check_side_by_side(tested, shares, LIMIT, DELTA, paired=False)
        broken += any(risk > LIMIT for each, proof in zip(sequences, proofs, strict=True) for risk in each[: proof.n_passed])
    assert binomtest(broken, draws, DELTA, alternative="greater").pvalue > 1e-3
    assert broken > 0.1 * DELTA * draws


@pytest.mark.parametrize(("fixed", "holds"), [([False, True], True), (None, False)])
def test_sequences_that_were_chosen_on_rows_of_a_fixed_one(fixed: list[bool] | None, holds: bool) -> None:
    """A sequence that surely passes is chosen where a fixed candidate does well on the rows that test it, else a false one.

    If the chosen one gave its share to the fixed one, more than delta of the draws would have a false candidate pass.
    """
    from scipy.stats import binomtest

    rng, draws, broken = np.random.default_rng(13), 2500, 0
    delta = 0.06  # near what the exact test reaches with so many rows
    well = max(k for k in range(N) if fixed_sequence([losses(k)], LIMIT, delta, paired=False).certified)
    for _ in range(draws):
        ours, theirs = (losses(int((rng.random(N) < 0.1001).sum())) for _ in range(2))
        does_well = ours.sum() <= well
        proofs = check_side_by_side(
            [[losses(0) if does_well else theirs], [ours]], [0.5, 0.5], LIMIT, delta, paired=False, fixed=fixed
        )
        broken += bool(proofs[1].n_passed) or (not does_well and bool(proofs[0].n_passed))
    worse = binomtest(broken, draws, delta, alternative="greater").pvalue
    assert worse > 1e-3 if holds else worse < 1e-3


def test_testing_every_sequence_at_the_whole_delta_would_not_keep_it() -> None:
    """The simulation can tell: without shares three independent false candidates pass far too often."""
    from scipy.stats import binomtest

    rng, draws = np.random.default_rng(12), 1000
    broken = sum(any(passed([[int((rng.random(N) < 0.1001).sum())]], [1.0])[0] for _ in range(5)) for _ in range(draws))
    assert binomtest(broken, draws, DELTA, alternative="greater").pvalue < 1e-6
