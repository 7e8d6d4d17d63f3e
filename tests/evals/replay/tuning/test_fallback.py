"""Which sequences are tested beside the most promising one, and with what share of delta."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.replay.simulate import SimulatedCascade
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.fallback import CandidateSequence, Conditions, begins_safe, expected_usd, with_shares

CONDITIONS = Conditions(limit=0.05, delta=0.1, n=400, n_fit=170, premium_usd=1.0)


def sequence(*steps: tuple[float, float], doubt: float = 0.0) -> CandidateSequence:
    """Candidates of (mean loss, USD), each with the variance of losses on one row in twenty."""
    candidates = [
        Candidate(cascade=SimulatedCascade((), ()), thresholds=(), loss=loss, variance=0.05, usd=usd) for loss, usd in steps
    ]
    return CandidateSequence(candidates=tuple(candidates), doubt=doubt)


SURE = sequence((-0.1, 0.5), (-0.1, 0.4))
RISKY = sequence((0.03, 0.1))
SAFE = sequence((-0.1, 0.8), (0.0, 0.6), (0.02, 0.5))


def test_what_surely_passes_is_tested_alone() -> None:
    """A fallback could only cost power."""
    assert with_shares([SURE, SAFE], CONDITIONS) == [SURE]
    assert expected_usd([SURE], [1.0], CONDITIONS) == pytest.approx(0.4)
    assert begins_safe(SURE, CONDITIONS)


def test_what_may_fail_has_a_fallback() -> None:
    """A ladder that is cheap where it passes, and premium's cost where it fails, is tested beside a safe one."""
    assert not begins_safe(RISKY, CONDITIONS)
    used = with_shares([RISKY, SAFE], CONDITIONS)
    assert len(used) == 2
    assert sum(each.share for each in used) == pytest.approx(1.0)
    assert used[0].candidates == RISKY.candidates
    both = expected_usd(used, [each.share for each in used], CONDITIONS)
    assert both < min(expected_usd([RISKY], [1.0], CONDITIONS), expected_usd([SAFE], [1.0], CONDITIONS))


def test_what_never_passes_is_left_out() -> None:
    """All of delta goes to the fallback."""
    [used] = with_shares([sequence((0.5, 0.1)), SAFE], CONDITIONS)
    assert used.candidates == SAFE.candidates
    assert used.share == 1.0


def test_a_cost_that_cross_validation_adds_counts() -> None:
    """A ladder that is cheap in its sweep alone, and dear in cross-validation, is not worth the delta."""
    assert [each.candidates for each in with_shares([replace(SURE, extra_usd=0.7), SAFE], CONDITIONS)] == [SAFE.candidates]


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.floats(-0.1, 0.2), st.floats(0.0, 1.2)), min_size=1, max_size=4), min_size=1, max_size=3),
    st.floats(0.0, 2.0),
)
def test_sequences_are_never_predicted_to_cost_more_than_the_first_alone(
    steps: list[list[tuple[float, float]]], doubt: float
) -> None:
    """Shares are of the whole, above 0; candidates keep their order, and the first sequence is never shortened."""
    sequences = [sequence(*each, doubt=doubt) for each in steps]
    used = with_shares(sequences, CONDITIONS)
    shares = [each.share for each in used]
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) > 0
    assert expected_usd(used, shares, CONDITIONS) <= expected_usd(sequences[:1], [1.0], CONDITIONS) + 1e-12
    for each in used:
        whole = next(s for s in sequences if s.candidates[: len(each.candidates)] == each.candidates)
        assert whole is not sequences[0] or len(each.candidates) == len(whole.candidates)


def test_more_doubt_costs_more() -> None:
    """What is trusted less is expected to fail more often."""
    usd = [expected_usd([sequence((0.02, 0.2), doubt=doubt)], [1.0], CONDITIONS) for doubt in (0.0, 1.0, 2.0)]
    assert usd == sorted(usd)
    assert usd[0] < usd[2]
    assert np.isfinite(usd).all()
