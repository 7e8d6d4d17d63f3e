"""Rows of a journal's export: which of them are a sample of the traffic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.recording import Example
from evals.replay.rows.input_rows import ReplayError
from evals.replay.rows.sampling import sampled_rows


def row(i: int, **raw: object) -> Example:
    """A row with further fields."""
    return Example(f"r{i}", f"question {i}", {}, raw=raw)


def test_rows_without_a_probability_are_all_used() -> None:
    """Also escalated ones, where no row is incomplete."""
    rows = [row(0), row(1, escalated=True)]
    assert sampled_rows(rows, n_incomplete=0) == (rows, None)
    assert sampled_rows(rows[:1], n_incomplete=5) == (rows[:1], None)


def test_rows_complete_because_they_escalated_are_refused_with_the_remedy() -> None:
    """They are the unsure ones."""
    with pytest.raises(ReplayError, match=r"1 of the 2 rows .* complete only because they escalated \(r1\).*--missing"):
        sampled_rows([row(0), row(1, escalated=True)], n_incomplete=3)


def test_rows_that_an_export_left_out_count_as_incomplete() -> None:
    """``export --complete`` leaves the escalated ones, and says how many it dropped."""
    with pytest.raises(ReplayError, match=r"escalated \(r1\), and 7 rows are not complete.*without --complete, then ask"):
        sampled_rows([row(0), row(1, escalated=True, incomplete_left_out=7)], n_incomplete=0)


def test_drawn_rows_are_used_and_others_left_out() -> None:
    """Equal probabilities need no thinning; an escalated row that was not drawn is not part of the sample."""
    rows = [row(0, sampling_probability=0.1), row(1, escalated=True), row(2, sampling_probability=0.1, escalated=True)]
    used, sampling = sampled_rows(rows, n_incomplete=97)
    assert [e.id for e in used] == ["r0", "r2"]
    assert str(sampling) == (
        "2 rows used as a sample of the traffic, drawn with probability 0.1; 1 left out that were not drawn at random"
    )


@pytest.mark.parametrize("value", [0, -0.1, 1.5, "0.1", True])
def test_what_is_no_probability_is_named(value: object) -> None:
    """With its row."""
    with pytest.raises(ReplayError, match="'r0': sampling_probability must lie"):
        sampled_rows([row(0, sampling_probability=value)], n_incomplete=0)


@given(st.lists(st.sampled_from([0.02, 0.1, 0.5, 1.0, None]), min_size=1, max_size=40), st.integers(0, 5))
def test_every_row_is_counted_once(probabilities: list[float | None], seed: int) -> None:
    """Rows with the smallest probability always stay; the same seed gives the same rows."""
    rows = [row(i, **({} if p is None else {"sampling_probability": p})) for i, p in enumerate(probabilities)]
    used, sampling = sampled_rows(rows, n_incomplete=1, seed=seed)
    assert used == sampled_rows(rows, n_incomplete=1, seed=seed)[0]
    if sampling is None:
        assert used == rows
        return
    assert sampling.n_used + sampling.n_left_out == len(rows)
    assert {r.id for r, p in zip(rows, probabilities, strict=True) if p == sampling.smallest} <= {e.id for e in used}


def test_thinned_rows_estimate_the_traffics_mean_without_bias() -> None:
    """Rows near a threshold are drawn ten times as often and are worse: unthinned, the mean would be off by ten points."""
    rng = np.random.default_rng(1)
    means = []
    for seed in range(200):
        hard = rng.random(4000) < 0.3
        pi = np.where(hard, 0.5, 0.05)
        right = rng.random(4000) < np.where(hard, 0.5, 0.9)
        rows = [
            row(i, sampling_probability=float(pi[i]), right=bool(right[i])) for i in np.flatnonzero(rng.random(4000) < pi)
        ]
        used, _ = sampled_rows(rows, n_incomplete=1, seed=seed)
        means.append(np.mean([e.raw["right"] for e in used]))
    error = np.std(means) / len(means) ** 0.5
    assert abs(np.mean(means) - (0.3 * 0.5 + 0.7 * 0.9)) < 3.5 * error
