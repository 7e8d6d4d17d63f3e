"""Sums of amounts that may be unknown."""

from math import isclose

from hypothesis import given
from hypothesis import strategies as st

from cascade.util.totals import plus, total, total_usage
from judges import Usage

AMOUNTS = st.lists(st.none() | st.floats(0.0, 1e6))


@given(AMOUNTS)
def test_one_unknown_amount_makes_the_total_unknown(amounts: list[float | None]) -> None:
    """The total is None exactly where an amount is None, and else the sum."""
    known_amounts = [amount for amount in amounts if amount is not None]
    result = total(amounts)
    assert (result is None) == (len(known_amounts) < len(amounts))
    assert result is None or isclose(result, sum(known_amounts), abs_tol=1e-9)


@given(AMOUNTS)
def test_adding_one_by_one_gives_the_same_total(amounts: list[float | None]) -> None:
    """``plus`` from 0 on is ``total``."""
    running: float | None = 0.0
    for amount in amounts:
        running = plus(running, amount)
    result = total(amounts)
    assert (running is None) == (result is None)
    assert running is None or result is None or isclose(running, result, rel_tol=1e-9, abs_tol=1e-9)


def test_an_unknown_usage_makes_the_total_unknown() -> None:
    """Token counts follow the same rule, and none at all are an empty usage."""
    assert total_usage([Usage(1, 2), Usage(3, 4)]) == Usage(4, 6)
    assert total_usage([Usage(1, 2), None]) is None
    assert total_usage([]) == Usage()
