"""The progress line: silent while the work is short, then rare, true and gone in the end."""

from typing import Any

import pytest

from evals.common import progress
from evals.common.progress import EVERY_S, FIRST_AFTER_S, LINE, Progress


class Clock:
    """A clock that goes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the module reads the time from, and a standard error that is a terminal."""
    clock = Clock()
    monkeypatch.setattr(progress, "perf_counter", clock)
    monkeypatch.setattr(progress, "watched", lambda: True)
    return clock


def test_nothing_is_said_where_nobody_looks(clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Into a file or a pipe no bar is drawn, however long the work takes."""
    monkeypatch.setattr(progress, "watched", lambda: False)
    work = Progress(10, "judging")
    for _ in range(10):
        clock.now += 60.0
        work.step()
    work.end()
    assert capsys.readouterr() == ("", "")


def test_nothing_is_said_below_two_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither while the work runs nor at its end, on either stream."""
    work = Progress(1000, "judging")
    for _ in range(1000):
        clock.now += 0.0019
        work.step()
    work.end()
    assert capsys.readouterr() == ("", "")


def test_the_line_says_how_far_and_how_long(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """After 3 of 12 seconds a quarter is done, and 9 s are left; it goes to standard error, over the line before."""
    work = Progress(4, "judging")
    clock.now += 3.0
    work.step()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("\r")
    assert "\n" not in err
    assert err.strip() == f"judging [{'#' * 7}{'.' * 23}] 1 of 4, 9 s left"


def test_it_is_said_every_half_second(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """However many steps there are: ten seconds of them give at most one line each half second after the first two."""
    work = Progress(10_000, "judging")
    for _ in range(10_000):
        clock.now += 0.001
        work.step()
    assert 10 <= capsys.readouterr().err.count("\r") <= (10 - FIRST_AFTER_S) / EVERY_S + 1


def test_a_shorter_line_covers_the_longer(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is as wide as the widest so far, and at the end the line is blank."""
    work = Progress(1000, "judging")
    clock.now += 100.0
    work.step()
    clock.now += 1.0
    work.done = 998
    work.step()
    lines = capsys.readouterr().err.split("\r")[1:]
    assert [len(line) for line in lines] == [LINE, LINE]
    assert lines[1].endswith("0 s left".ljust(len(lines[1]) - lines[1].index("0 s left")))
    work.end()
    assert capsys.readouterr().err == "\r" + " " * LINE + "\r"


def test_the_full_bar(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """The last step fills it."""
    work = Progress(1, "engine")
    clock.now += 2.0
    work.step()
    assert f"[{'#' * 30}] 1 of 1, 0 s left" in capsys.readouterr().err


def test_the_rate_is_pieces_a_second(clock: Clock) -> None:
    """Of the whole work, from the start to the end; work without a piece or without a moment is no division by zero."""
    work = Progress(50, "engine")
    clock.now += 4.0
    work.end()
    assert work.rate == pytest.approx(12.5)
    none = Progress(0, "engine")
    none.end()
    assert none.rate > 0
