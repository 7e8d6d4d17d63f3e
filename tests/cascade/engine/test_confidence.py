"""The uncalibrated confidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.engine.confidence import combine
from judges import Verdict

scores = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=6)


@given(scores, st.floats(0, 1))
def test_missing_is_left_out(values: list[float | None], prior: float) -> None:
    """A judge without a score changes nothing; without any score the confidence is the prior."""
    verdicts = [Verdict("j", v) for v in values]
    scored = [v for v in verdicts if v.score is not None]
    assert combine(verdicts, prior) == combine(scored, prior)
    assert 0 <= combine(verdicts, prior) <= 1
    if not scored:
        assert combine(verdicts, prior) == prior


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5), st.data())
def test_monotone_in_each_score(values: list[float], data: st.DataObject) -> None:
    """Raising one judge's score never lowers the confidence."""
    i = data.draw(st.integers(0, len(values) - 1))
    raised = [*values]
    raised[i] = data.draw(st.floats(values[i], 0.99))
    assert combine([Verdict("j", v) for v in raised]) >= combine([Verdict("j", v) for v in values]) - 1e-12


def test_values() -> None:
    """Geometric mean of odds: 0.9 and 0.5 have odds 9 and 1, together 3."""
    assert combine([Verdict("a", 0.9), Verdict("b", 0.5)]) == pytest.approx(0.75)
    assert combine([Verdict("a", 0.0)]) == 0.0
