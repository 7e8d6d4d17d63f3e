"""Events and limited warnings."""

import logging

import pytest

from cascade.util.log_events import Event, LimitedLog


def test_an_event_is_one_line_of_names_and_values() -> None:
    """Values with spaces, quotes or newlines are quoted; None is printed as "unknown", never as 0."""
    event = Event("request", status=200, ms=1.23456789, cost=None, accepted=True, key='a "b"\nc', empty="")
    assert str(event) == 'request: status=200 ms=1.23457 cost=unknown accepted=true key="a \\"b\\"\\nc" empty=""'


def test_warnings_of_one_kind_are_limited(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is written at once, the next after a minute, with the number of those between; kinds are apart."""
    now = [100.0]
    monkeypatch.setattr("cascade.util.log_events.monotonic", lambda: now[0])
    log = LimitedLog(logging.getLogger("cascade.test"))
    for _ in range(5):
        log.warning("a", Event("a"))
    log.warning("b", Event("b"))
    now[0] += 60
    log.warning("a", Event("a"))
    assert caplog.messages == ["a:", "b:", "a: suppressed=4"]


def test_a_level_that_is_off_formats_nothing() -> None:
    """Neither the event nor its values become text."""

    class Never:
        def __str__(self) -> str:
            raise AssertionError

    logger = logging.getLogger("cascade.test.off")
    logger.setLevel(logging.ERROR)
    LimitedLog(logger).warning("a", Event("a", value=Never()))


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    """However many names there are."""
    log = LimitedLog(logging.getLogger("cascade.test"))
    for number in range(2_500):
        log.warning(number, Event("a"))
    assert len(log._kinds) <= 1_000
