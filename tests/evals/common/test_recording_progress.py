"""What a person sees of a recording under way, on a terminal and in a log."""

import io

import pytest

from evals.common import progress as module
from evals.common.progress import RecordingProgress, duration


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the line reads, to be changed in place."""
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_whole_lines_and_few(clock: list[float]) -> None:
    """Without a terminal there is one line every 30 s, without control characters, that names what is pending."""
    stream = io.StringIO()
    progress = RecordingProgress(1000, 100, stream)
    for second in range(1, 91):
        clock[0] += 1
        progress.step()
        progress.show(0.25, incomplete=False, waits=["small is not asked for 40 s"] if second == 60 else [])
    progress.end()
    lines = stream.getvalue().splitlines()
    assert lines == [
        f"[{'#' * 3}{'.' * 21}] 130 of 1,000, 1.0 answers/s, 14 min left, $0.2500 spent",
        f"[{'#' * 3}{'.' * 21}] 160 of 1,000, 1.0 answers/s, 14 min left, $0.2500 spent; small is not asked for 40 s",
        f"[{'#' * 4}{'.' * 20}] 190 of 1,000, 1.0 answers/s, 14 min left, $0.2500 spent",
    ]
    assert stream.getvalue().endswith("spent\n")


def test_a_terminal_has_one_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written over the last one, never longer than the terminal is wide, and cleared at the end."""
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    progress = RecordingProgress(10, 0, stream)
    for _ in range(3):
        clock[0] += 0.6
        progress.show(0.0, incomplete=True, waits=["x" * 50])
    progress.end()
    *lines, last = stream.getvalue().split("\r")[1:]
    assert last == "\x1b[K"
    assert len(lines) == 3
    assert all(line.endswith("\x1b[K") and len(line) == 59 + len("\x1b[K") for line in lines)
    assert "0 of 10, 0.0 answers/s, unknown" in lines[0]


def test_durations() -> None:
    """In the unit that a person would use."""
    assert [duration(s) for s in (3.2, 99, 100, 5999, 6000, 36000)] == ["3 s", "99 s", "2 min", "100 min", "1.7 h", "10.0 h"]
