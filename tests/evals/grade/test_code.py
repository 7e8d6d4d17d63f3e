"""Code graded by tests, in a process that can neither do harm nor pass by anything but being right."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evals.grade import GraderError
from evals.grade.code import CodeGrader, GradingCase, code_of
from evals.grade.command import grade
from evals.grade.sandbox.client import SERVER, Server
from tests.workers import warm_python

ROOT = Path(__file__).resolve().parents[3]

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
        assert one.grade(GradingCase(text=text, reference=TESTS)) == 0.0
        assert time.monotonic() - started < 8


def test_memory_is_limited() -> None:
    """An allocation beyond the limit is an error of the program's, not of the machine."""
    greedy = "x = bytearray(3 << 30)\ndef double(x): return 2 * x"
    assert CodeGrader(megabytes=256).grade(GradingCase(text=greedy, reference=TESTS)) == 0.0


def test_the_network_is_closed() -> None:
    """A server on this very machine cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        text = f"import socket\nsocket.create_connection(('127.0.0.1', {port}))\ndef double(x): return 2 * x"
        assert grade(TESTS, text, "code") == 0.0
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("call", ["assert os.system('true') == 0", "os.fork()", "__import__('subprocess').run(['true'])"])
def test_no_process_is_started(call: str) -> None:
    """Graded code stays in its own process."""
    assert grade(TESTS, f"import os\n{call}\ndef double(x): return 2 * x", "code") == 0.0


def test_nothing_of_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not there to be read."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    text = "import os\nassert 'OPENAI_API_KEY' not in os.environ\ndef double(x): return 2 * x"
    assert grade(TESTS, text, "code") == 1.0


def test_files_elsewhere_are_safe(tmp_path: Path) -> None:
    """What the user may write the graded code may not; its own folder is gone afterwards."""
    existing, created = tmp_path / "kept", tmp_path / "made"
    existing.write_text("x", encoding="utf-8")
    one = CodeGrader()
    for change in (f"os.remove({str(existing)!r})", f"os.rename({str(existing)!r}, 'mine')", f"open({str(created)!r}, 'w')"):
        assert one.grade(GradingCase(text=f"import os\n{change}\ndef double(x): return 2 * x", reference=TESTS)) == 0.0
    assert existing.read_text(encoding="utf-8") == "x"
    assert not created.exists()


def test_behind_walls_there_is_nobody_else() -> None:
    """The program is process 1 of its own namespaces, and sees only Python's files."""
    text = """
import os, sys
alone = os.getpid() == 1 and not os.path.exists("/proc")
# Python itself may be in a virtual environment there.
here = [name for name in os.listdir("/tmp") if not any(path.startswith("/tmp/" + name) for path in sys.path)]
"""
    assert CodeGrader().grade(GradingCase(text=text, reference="assert alone and not here")) == 1.0


def test_what_programs_commonly_do_is_allowed() -> None:
    """Threads, an event loop, temporary files and big libraries' imports are no crime."""
    text = """
import asyncio, concurrent.futures, os, tempfile
def double(x):
    async def later(): return 2 * x
    with concurrent.futures.ThreadPoolExecutor(4) as pool: assert list(pool.map(abs, [-1])) == [1]
    with tempfile.NamedTemporaryFile("w+") as file: file.write("x")
    os.mkdir("d"); os.rename("d", "e"); os.rmdir("e")
    return asyncio.run(later())
"""
    assert CodeGrader().grade(GradingCase(text=text, reference=TESTS)) == 1.0


def test_a_thread_that_is_left_behind_does_not_delay_the_grade() -> None:
    """The tests have ended, and with them the process."""
    started = time.monotonic()
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef double(x): return 2 * x"
    assert grade(TESTS, text, "code") == 1.0
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def check(f):\n    assert f(2) == 4\n", "pass without any code"),
        ("", "pass without any code"),
        ("assert double(2) ==", "the tests are not Python: invalid syntax"),
    ],
)
def test_tests_that_test_nothing_are_an_error(tests: str, message: str) -> None:
    """Everything would pass them, or nothing: a mistake in the data that would be taken for the model's quality."""
    with pytest.raises(GraderError, match=message):
        grade(tests, RIGHT, "code")


def test_a_sandbox_that_cannot_work_grades_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this machine is no wrong answer."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    server = Server()
    monkeypatch.setattr("evals.grade.code.SERVER", server)
    with pytest.raises(GraderError, match="the sandbox could not work"):
        grade(TESTS, RIGHT, "code")
    server.close()


def test_a_server_that_has_ended_is_started_again() -> None:
    """Whoever killed it: the next answer is graded all the same."""
    assert grade(TESTS, RIGHT, "code") == 1.0
    assert SERVER._process is not None
    SERVER._process.kill()
    SERVER._process.wait()
    assert grade(TESTS, RIGHT, "code") == 1.0


# A namespace whose users may make no namespaces: there the kernel gives no walls.
WALL_LESS = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
RECORDED = {
    "id": "1", "task": "t", "prompt": "double", "reference": TESTS,
    "answers": {"m": {"text": "open('{made}', 'w')\ndef double(x): return 2 * x"}},
}  # fmt: skip


def _command(tmp_path: Path, before: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    created = tmp_path / "made"
    recording = tmp_path / "recording.jsonl"
    recording.write_text(json.dumps(RECORDED).replace("{made}", str(created)) + "\n", encoding="utf-8")
    command = [*before, sys.executable, "-m", "evals.grade", str(recording), "--grader", "code", *options]
    result = warm_python.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    if "unshare" in result.stderr and before:
        pytest.skip(result.stderr)
    assert not created.exists()
    return result


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_the_command_runs_nothing_without_walls_unasked(tmp_path: Path) -> None:
    """It says what is missing and what would be risked; --unsafe runs the answers and says so."""
    before = ["unshare", "--user", "--map-root-user", "sh", "-c", WALL_LESS, "sh"]
    refused = _command(tmp_path, before)
    assert refused.returncode == 2
    assert "no isolation to run answers in" in refused.stderr
    assert "with your rights" in refused.stderr
    assert refused.stderr.count("\n") <= 2
    result = _command(tmp_path, before, "--unsafe")
    assert result.returncode == 0, result.stderr
    assert "with your rights" in result.stderr
    graded = json.loads((tmp_path / "recording.jsonl").read_text(encoding="utf-8"))["answers"]["m"]
    assert graded["grader"] == "code:unsafe=True@3"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_an_ordinary_user_has_walls_too(tmp_path: Path) -> None:
    """No privilege is needed where the kernel lets its users make namespaces."""
    result = _command(tmp_path, ["unshare", "--user", "--map-user=1000", "--map-group=1000"])
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "recording.jsonl").read_text(encoding="utf-8"))["answers"]["m"]["quality"] == 0.0
