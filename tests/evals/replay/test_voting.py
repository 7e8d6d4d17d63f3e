"""``final: vote`` in a replay: fitted on the fit rows, and offered only where it pays there."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.engine.decide import decide_vote
from cascade.policy.calibrators import Constant
from cascade.policy.vote_spec import VoteSpec
from evals.replay.score_table import NO_MEANING, TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.voting import alternatives, fit_vote, quality_at_end, vote_if_better

ROWS = np.arange(400)


def tier(model: str, meaning: Any, confidence: Any) -> CandidateTier:
    """A tier without judges; the right answer of every row has the meaning 0."""
    n = len(meaning)
    column = TierScores(
        model=model,
        rules=(),
        names=(),
        scores=np.zeros((n, 0)),
        vetoed=np.zeros((n, 1), dtype=bool),
        quality=(np.asarray(meaning) == 0).astype(float)[:, None],
        cost_usd=np.ones((n, 1)),
        latency_s=np.ones((n, 1)),
        meaning=np.asarray(meaning, dtype=np.int64)[:, None],
    )
    return CandidateTier(
        column=column,
        calibrators=(Constant(0.5),),
        confidence=np.asarray(confidence, dtype=float)[:, None],
        accept_at=(),
        reject_below=(),
    )


def ladder(accuracies: list[float], *, copies: bool, count: int = 6, seed: int = 0) -> SimulatedCascade:
    """Tiers of these accuracies whose errors are independent, or all the same; ``count`` answers are plausible."""
    rng = np.random.default_rng(seed)
    shared_draw, shared_error = rng.random(len(ROWS)), rng.integers(1, count, len(ROWS))
    tiers = []
    for i, accuracy in enumerate(accuracies):
        draw = shared_draw if copies else rng.random(len(ROWS))
        error = shared_error if copies else rng.integers(1, count, len(ROWS))
        tiers.append(tier(f"m{i}", np.where(draw < accuracy, 0, error), np.full(len(ROWS), accuracy)))
    return SimulatedCascade.from_tiers(tiers)


def test_independent_tiers_vote_better_than_the_best_of_them() -> None:
    """Three models that err on their own are outvoted by nobody; the vote is offered, and nothing is lost by it."""
    cascade = ladder([0.6, 0.62, 0.65], copies=False)
    [(voting, why)] = vote_if_better(cascade, ROWS)
    assert "vote" in why
    assert voting.final == "vote"
    assert quality_at_end(voting).mean() > quality_at_end(cascade.with_final("best")).mean() + 0.05


@settings(max_examples=50)
@given(st.data())
def test_winners_are_those_of_the_vote(data: st.DataObject) -> None:
    """With ties, answers without a vote, clamped confidences and agreement, on any rows."""
    n, tiers = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    meanings = st.lists(st.sampled_from([0, 1, 2, NO_MEANING]), min_size=n, max_size=n)
    confidences = st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.9992, 0.9999, 1.0]), min_size=n, max_size=n)
    cascade = SimulatedCascade.from_tiers([tier(f"m{i}", data.draw(meanings), data.draw(confidences)) for i in range(tiers)])
    vote = VoteSpec(
        alternatives=data.draw(st.sampled_from([2.0, 3.5, 10.0])), exponent=data.draw(st.sampled_from([0.25, 1.0]))
    )
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1))), dtype=np.int64)
    voters = [[s.confidence.tolist(), s.meaning.tolist()] for s in cascade.tier_outcomes]
    for row, place in zip(rows, cascade.winners(vote, rows), strict=True):
        p = [confidence[row] for confidence, _ in voters]
        clusters = [None if meaning[row] == NO_MEANING else meaning[row] for _, meaning in voters]
        winner = decide_vote(p, clusters, alternatives=vote.alternatives, exponent=vote.exponent)
        assert place == (-1 if winner is None else winner[0])


def test_the_number_of_alternatives_is_found_from_collisions() -> None:
    """Two wrong answers of 6 plausible ones are the same in a fifth of the cases."""
    assert alternatives(ladder([0.5, 0.5, 0.5], copies=False), ROWS) == pytest.approx(6, abs=1)


def test_models_with_the_same_errors_have_nothing_to_vote_on() -> None:
    """The weaker ones only repeat what the strongest says."""
    assert vote_if_better(ladder([0.6, 0.6, 0.6], copies=True), ROWS) == []


def test_a_vote_that_gains_by_chance_is_not_offered() -> None:
    """With two tiers the more confident one always wins, so that there is nothing to gain."""
    cascade = ladder([0.6, 0.9], copies=False)
    assert vote_if_better(cascade, ROWS) == []
    assert quality_at_end(fit_vote(cascade, ROWS)).mean() == quality_at_end(cascade.with_final("best")).mean()


def test_the_posterior_of_independent_tiers_is_calibrated() -> None:
    """Where its assumptions hold, answers with a posterior of p are right in p of the cases."""
    every = [ladder([0.6, 0.62, 0.65], copies=False, seed=seed) for seed in range(10)]
    p, right = [], []
    for cascade in every:
        outcome = fit_vote(cascade, ROWS).outcome((1.1, 1.1), ROWS)
        p.append(outcome.confidence)
        right.append(outcome.quality)
    confidence, quality = np.concatenate(p), np.concatenate(right)
    assert confidence.mean() == pytest.approx(quality.mean(), abs=0.06)
    low = confidence < np.median(confidence)
    assert quality[low].mean() + 0.1 < quality[~low].mean()
