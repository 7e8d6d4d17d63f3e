"""Ten minutes in steps of five seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.gateway.timeseries import STEP_S, STEPS, Timeseries

NOW = 1_000_000.0


def test_runs_are_counted_in_the_step_in_which_they_ended() -> None:
    """Money adds up, latencies give quantiles, what is unknown adds nothing, an empty step has no latency."""
    history = Timeseries()
    history.add(NOW, 0.5, 2.0, 1.0)
    history.add(NOW + 4.9, None, None, 3.0)
    history.add(NOW + 10, 0.25, None, None)
    columns = history.columns(NOW + 10)
    assert len({len(column) for name, column in columns.items() if name != "step_s"}) == 1
    assert columns["at"][-3:] == [NOW, NOW + 5, NOW + 10]
    assert columns["runs"][-3:] == [2, 0, 1]
    assert columns["usd"][-3:] == [0.5, 0.0, 0.25]
    assert columns["premium_usd"][-3:] == [2.0, 0.0, 0.0]
    assert columns["p50_s"][-3:] == [3.0, None, None]
    assert sum(columns["runs"]) == 3


@given(st.lists(st.floats(0, 5_000), max_size=200).map(sorted))
def test_what_is_older_than_ten_minutes_is_gone(after: list[float]) -> None:
    """Memory stays what it is; every run of the last steps is there once."""
    history = Timeseries()
    for seconds in after:
        history.add(NOW + seconds, 1.0, 1.0, 1.0)
    now = NOW + (after[-1] if after else 0.0)
    columns = history.columns(now)
    oldest = int(now // STEP_S) - STEPS + 1
    recent = sum(1 for seconds in after if int((NOW + seconds) // STEP_S) >= oldest)
    assert sum(columns["runs"]) == recent
    assert sum(columns["usd"]) == pytest.approx(recent)
