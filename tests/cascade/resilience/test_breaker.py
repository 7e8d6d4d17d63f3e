"""The circuit breaker: opens on a rate of failures, lets one probe through, and forgets what is old."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.resilience.breaker import Breaker, BreakerRule

RULE = BreakerRule(min_requests=4, failure_rate=0.5, window_s=10.0, cooldown_s=5.0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(rule: BreakerRule = RULE) -> tuple[Breaker, Clock]:
    """A breaker with its clock."""
    clock = Clock()
    return Breaker(rule, clock), clock


def ask(one: Breaker, well: bool | None) -> bool:
    """One request; whether it was let through."""
    admission = one.admit()
    if isinstance(admission, float):
        return False
    one.record(admission, well)
    return True


def opened() -> tuple[Breaker, Clock]:
    """A breaker that is open."""
    one, clock = breaker()
    assert all(ask(one, False) for _ in range(4))
    assert one.state == "open"
    return one, clock


def test_it_opens_at_the_rate_but_not_before_enough_requests() -> None:
    """Three failures of three are too few; the fourth opens it."""
    one, _ = breaker()
    for _ in range(3):
        ask(one, False)
    assert one.state == "closed"
    ask(one, False)
    assert one.state == "open"
    assert not ask(one, True)


def test_below_the_rate_it_stays_closed() -> None:
    """One failure in three is not half."""
    one, _ = breaker()
    for well in (True, True, False) * 20:
        assert ask(one, well)
    assert one.counts() == (60, 20)


def test_what_says_nothing_is_not_counted() -> None:
    """Cancelled requests and a caller's mistakes neither open nor close it."""
    one, _ = breaker()
    for _ in range(50):
        ask(one, None)
    assert one.counts() == (0, 0)


def test_it_forgets_what_is_older_than_the_window() -> None:
    """Failures of long ago do not add up with those of today."""
    one, clock = breaker()
    for _ in range(3):
        ask(one, False)
    clock.now += 11.0
    ask(one, False)
    assert one.state == "closed"
    assert one.counts() == (1, 1)
    clock.now += 1e9
    assert one.counts() == (0, 0)


def test_after_a_while_one_probe_is_let_through() -> None:
    """Only one, however many ask; its success closes the breaker and clears the past."""
    one, clock = opened()
    left = one.admit()
    assert isinstance(left, float)
    assert 0 < left <= 5.0
    clock.now += 5.0
    probe = one.admit()
    assert probe == "probe"
    assert one.state == "half_open"
    assert isinstance(one.admit(), float)
    one.record(probe, True)
    assert one.state == "closed"
    assert one.counts() == (1, 0)


def test_a_failed_probe_opens_it_anew() -> None:
    """For the whole time again."""
    one, clock = opened()
    clock.now += 5.0
    assert ask(one, False)
    assert one.state == "open"
    clock.now += 4.9
    assert not ask(one, True)
    clock.now += 0.2
    assert ask(one, True)
    assert one.state == "closed"


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    """A cancelled probe must not leave the breaker open permanently."""
    one, clock = opened()
    clock.now += 5.0
    assert ask(one, None)
    assert one.admit() == "probe"


def test_what_was_under_way_does_not_decide() -> None:
    """Requests that began before the breaker opened neither close it nor take the probe's place."""
    one, clock = breaker()
    early = [one.admit() for _ in range(6)]
    for _ in range(4):
        one.record("pass", False)
    assert one.state == "open"
    one.record("pass", True)
    assert one.state == "open"
    clock.now += 5.0
    assert one.admit() == "probe"
    one.record("pass", None)
    one.record("pass", True)
    assert one.state == "half_open"
    assert isinstance(one.admit(), float)
    assert early == ["pass"] * 6


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.floats(0.0, 8.0), st.sampled_from(["begin", "well", "bad", "nothing"]), st.integers(0, 5)), max_size=60
    )
)
def test_at_most_one_probe_and_never_stuck(steps: list[tuple[float, str, int]]) -> None:
    """In any order of events: one probe at most while not closed, and after cooldown_s of quiet somebody is let through."""
    one, clock = breaker()
    under_way: list[str] = []
    for pause, what, which in steps:
        clock.now += pause
        if what == "begin":
            admission = one.admit()
            if not isinstance(admission, float):
                under_way.append(admission)
        elif under_way:
            one.record(under_way.pop(which % len(under_way)), {"well": True, "bad": False, "nothing": None}[what])  # type: ignore[arg-type]
        assert under_way.count("probe") <= 1
        total, failed = one.counts()
        assert 0 <= failed <= total
    for admission in under_way:
        one.record(admission, None)  # type: ignore[arg-type]
    clock.now += RULE.cooldown_s
    assert not isinstance(one.admit(), float)


def test_threads_share_one_probe() -> None:
    """Of many threads that ask at the same moment one gets the probe."""
    one, clock = opened()
    clock.now += 5.0
    states: list[object] = []
    gate = threading.Barrier(16)

    def asks() -> None:
        gate.wait()
        states.append(one.admit())

    threads = [threading.Thread(target=asks) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states.count("probe") == 1
