"""Code graded by tests, in a process that cannot do harm by accident."""

import socket
import time
from pathlib import Path

import pytest

from evals.grade import grade
from evals.graders.code import Case, CodeGrader, code_of

TESTS = "assert double(2) == 4\nassert double(-1) == -2\n"
RIGHT = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nHope that helps."


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        (RIGHT, 1.0),
        ("def double(x): return x + x", 1.0),
        ("```python\ndef double(x): return 3 * x\n```", 0.0),
        ("```python\ndef double(x) return\n```", 0.0),
        ("no code at all", 0.0),
        ("import sys\nsys.exit(0)", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("raise SystemExit", 0.0),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\ndef double(x): return 2 * x", 0.0),
        ("\ud800def double(x): return 2 * x", 0.0),
    ],
)
def test_cases(text: str, quality: float) -> None:
    """Passing means that the tests ran to their end: code that leaves early has not passed."""
    assert grade(TESTS, text, "code") == quality


def test_the_last_python_block_is_the_answer() -> None:
    """Blocks of other languages are output or shell; without a mark the last block counts, without a block the text."""
    assert code_of("```python\na\n```\n```python\nb\n```\n```text\nc\n```") == "b\n"
    assert code_of("```\na\n```") == "a\n"
    assert code_of("a") == "a"


def test_time_is_limited() -> None:
    """Neither a busy loop nor a sleep holds the grader up for long."""
    one = CodeGrader(seconds=1)
    for text in ("while True: pass", "import time\ntime.sleep(600)"):
        started = time.monotonic()
        assert one.grade(Case(text=text, reference=TESTS)) == 0.0
        assert time.monotonic() - started < 8


def test_memory_is_limited() -> None:
    """An allocation beyond the limit is an error of the program's, not of the machine."""
    greedy = "x = bytearray(3 << 30)\ndef double(x): return 2 * x"
    assert CodeGrader(megabytes=256).grade(Case(text=greedy, reference=TESTS)) == 0.0


def test_the_network_is_closed() -> None:
    """A server on this very machine cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        text = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))\ndef double(x): return 2 * x"
        assert grade(TESTS, text, "code") == 0.0
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("call", ["os.system('true')", "os.fork()", "__import__('subprocess').run(['true'])"])
def test_no_process_is_started(call: str) -> None:
    """Graded code stays in its own process."""
    assert grade(TESTS, f"import os\n{call}\ndef double(x): return 2 * x", "code") == 0.0


def test_nothing_of_the_environment_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not there to be read."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    text = "import os\nassert 'OPENAI_API_KEY' not in os.environ\ndef double(x): return 2 * x"
    assert grade(TESTS, text, "code") == 1.0
