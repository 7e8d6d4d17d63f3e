"""decide: the only place where a confidence meets a threshold."""

import math

from hypothesis import given
from hypothesis import strategies as st

from cascade.engine.decide import decide
from cascade.policy.thresholds import Thresholds
from cascade.result import Action

unit = st.floats(0, 1)
ORDER = {Action.STOP: 0, Action.ESCALATE: 0, Action.JUDGE: 1, Action.ACCEPT: 2}


@st.composite
def thresholds(draw: st.DrawFn) -> Thresholds:
    """Thresholds of up to four stages, rejecting never above accepting."""
    pairs = []
    for _ in range(draw(st.integers(0, 4))):
        low, high = sorted((draw(unit), draw(unit)))
        pairs.append((draw(st.sampled_from((None, high))), draw(st.sampled_from((None, low)))))
    return Thresholds(draw(unit), tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


@given(thresholds(), st.data(), unit, unit, st.booleans())
def test_monotone(t: Thresholds, data: st.DataObject, a: float, b: float, last: bool) -> None:
    """More confidence never leads to a worse decision."""
    stage = data.draw(st.integers(-1, len(t.accept_at) - 1))
    low, high = sorted((a, b))
    assert ORDER[decide(t, stage, low, last_tier=last)] <= ORDER[decide(t, stage, high, last_tier=last)]


@given(thresholds(), st.data(), unit, st.booleans())
def test_a_veto_is_never_accepted_nor_judged_on(t: Thresholds, data: st.DataObject, p: float, last: bool) -> None:
    """A vetoed answer is given up at any stage and any confidence."""
    stage = data.draw(st.integers(-1, len(t.accept_at) - 1))
    assert decide(t, stage, p, vetoed=True, last_tier=last) is (Action.STOP if last else Action.ESCALATE)


@given(thresholds(), unit, st.booleans())
def test_the_last_stage_always_decides(t: Thresholds, p: float, last: bool) -> None:
    """After the last judge there is no judging on."""
    action = decide(t, len(t.accept_at) - 1, p, last_tier=last)
    assert action is not Action.JUDGE
    assert (action is Action.ACCEPT) == (p >= t.final)


def test_a_threshold_of_zero_is_a_threshold() -> None:
    """0 accepts everything at that stage; it does not mean 'unset'."""
    assert decide(Thresholds(0.9, (0.0, None), (None, None)), 0, 0.0) is Action.ACCEPT
    assert decide(Thresholds(0.0), -1, 0.0) is Action.ACCEPT
    assert decide(Thresholds(0.9, (None, None), (0.0, None)), 0, 0.0) is Action.JUDGE


def test_equality_accepts_and_does_not_reject() -> None:
    """Both comparisons count a confidence that equals the threshold as reaching it."""
    t = Thresholds(0.5, (0.8, None), (0.3, None))
    assert decide(t, 0, 0.8) is Action.ACCEPT
    assert decide(t, 0, 0.3) is Action.JUDGE
    assert decide(t, 0, math.nextafter(0.3, 0)) is Action.ESCALATE
    assert decide(t, 1, 0.5) is Action.ACCEPT
