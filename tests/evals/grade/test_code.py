"""Code graded by tests, in a process that can neither do harm nor pass by anything but being right."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evals.grade import GraderError
from evals.grade.code import CodeGrader, GradingCase, code_of
from evals.grade.command import grade

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


@pytest.mark.parametrize("call", ["os.system('true')", "os.fork()", "__import__('subprocess').run(['true'])"])
def test_no_process_is_started(call: str) -> None:
    """Graded code stays in its own process."""
    assert grade(TESTS, f"import os\n{call}\ndef double(x): return 2 * x", "code") == 0.0


def test_nothing_of_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment are not there to be read."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    text = "import os\nassert 'OPENAI_API_KEY' not in os.environ\ndef double(x): return 2 * x"
    assert grade(TESTS, text, "code") == 1.0


FOUND = "import sys\nf = sys._getframe()\nwhile f and {name!r} not in f.f_locals: f = f.f_back\nhere = f.f_locals\n"
PIPES = """
import gc, io
files = [o for o in gc.get_objects() if isinstance(o, (io.BufferedReader, io.BufferedWriter)) and o.fileno() > 2]
given = [f for f in files if isinstance(f, io.BufferedReader)][0]
said = [f for f in files if isinstance(f, io.BufferedWriter)][0]
def part(): return given.read(int.from_bytes(given.read(8), 'big'))
said.write(b'.'); said.flush(); part()
said.write(b'.'); said.flush(); said.write(part()); said.flush()
"""
FORGED = {
    "the word found in a caller": FOUND.format(name="word") + "import os\nos.write(int(sys.argv[5]), here['word'])",
    "tests taken out": FOUND.format(name="sources") + "here['sources'][1:] = []",
    "tests overwritten": "open('tests.py', 'w').write('')",
    "exec redefined": "import builtins\nbuiltins.exec = lambda *_: None",
    "compile redefined": "import builtins\nreal = builtins.compile\nbuiltins.compile = lambda s, *a: real('', *a)",
    "what the tests call redefined": "import builtins\nbuiltins.abs = lambda _: 4\ndef double(x): return 4",
    "the sandbox's own words spoken": PIPES,
    "a result printed": "print('PASSED')\nimport sys\nsys.stderr.write('OK')",
    "a result left for the end": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit(0)",
    "a keeper spawned": "import multiprocessing as m\nm.get_context('spawn').Process().start()\ndef double(x): return 2 * x",
    "the parent killed": (
        "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid() or 1), 9)\ndef double(x): return 2 * x"
    ),
    "the group stopped": "import os\nos.killpg(0, 19)\ndef double(x): return 2 * x",
    "forks without end": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "threads without end": "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "output without end": "while True: print('x' * 10000)",
    "gigabytes on disk": "for i in range(3000): open(f'f{i}', 'wb').write(b'x' * (1 << 20))\ndef double(x): return 2 * x",
    "gigabytes of memory": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    "one big file": "open('f', 'wb').write(b'x' * (2 << 20))\ndef double(x): return 2 * x",
    "the hook disarmed": "import __main__, os\n__main__._FORBIDDEN = ()\nos.system('true')\ndef double(x): return 2 * x",
    "its own memory opened": "open('/proc/self/mem', 'r+b')\ndef double(x): return 2 * x",
}


@pytest.mark.parametrize("walls", [True, False])
@pytest.mark.parametrize("text", FORGED.values(), ids=FORGED)
def test_hostile_code_has_not_passed(text: str, walls: bool) -> None:
    """With the kernel's namespaces and without: nothing but right code gets a grade, and the machine stays whole."""
    tests = "assert abs(double(-2)) == 4\nassert abs(double(-3)) == 6"
    assert CodeGrader(seconds=1, walls=walls).grade(GradingCase(text=text, reference=tests)) == 0.0


@pytest.mark.parametrize("walls", [True, False])
def test_files_elsewhere_are_safe(tmp_path: Path, walls: bool) -> None:
    """What the user may write the graded code may not; its own folder is gone afterwards."""
    kept, made = tmp_path / "kept", tmp_path / "made"
    kept.write_text("x", encoding="utf-8")
    one = CodeGrader(walls=walls)
    for change in (f"os.remove({str(kept)!r})", f"os.rename({str(kept)!r}, 'mine')", f"open({str(made)!r}, 'w')"):
        assert one.grade(GradingCase(text=f"import os\n{change}\ndef double(x): return 2 * x", reference=TESTS)) == 0.0
    assert kept.read_text(encoding="utf-8") == "x"
    assert not made.exists()


@pytest.mark.parametrize("walls", [True, False])
def test_a_key_of_the_grader_is_out_of_reach(walls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in /proc, where the environment of a process of the same user can be read."""
    keeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"A_KEY": "sk-secret"})
    try:
        text = f"assert 'sk-secret' in open('/proc/{keeper.pid}/environ').read()\ndef double(x): return 2 * x"
        assert CodeGrader(walls=walls).grade(GradingCase(text=text, reference=TESTS)) == 0.0
    finally:
        keeper.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_behind_walls_there_is_nobody_else() -> None:
    """The program is the first process of a world of its own, whose end is the end of all that it started."""
    text = "import os\nalone = os.getpid() == 1 and not os.listdir('/proc')"
    verdict = CodeGrader().grade(GradingCase(text=text, reference="assert alone"))
    if os.path.exists("/.dockerenv") and not verdict:
        pytest.skip("the kernel allows no namespaces here")
    assert verdict == 1.0


@pytest.mark.parametrize("walls", [True, False])
def test_what_programs_commonly_do_is_allowed(walls: bool) -> None:
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
    assert CodeGrader(walls=walls).grade(GradingCase(text=text, reference=TESTS)) == 1.0


def test_a_thread_that_is_left_behind_does_not_delay_the_grade() -> None:
    """The tests have ended, and with them the process."""
    started = time.monotonic()
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef double(x): return 2 * x"
    assert grade(TESTS, text, "code") == 1.0
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("def check(f):\n    assert f(2) == 4\n", "pass without any code"),
        ("", "pass without any code"),
        ("assert double(2) ==", "the tests are no Python: invalid syntax"),
    ],
)
def test_tests_that_test_nothing_are_an_error(tests: str, said: str) -> None:
    """Everything would pass them, or nothing: a mistake in the data that would be taken for the model's quality."""
    with pytest.raises(GraderError, match=said):
        grade(tests, RIGHT, "code")


def test_a_sandbox_that_cannot_work_grades_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this machine is no wrong answer."""
    monkeypatch.setattr("evals.grade.sandbox.__file__", "/nowhere/sandbox.py")
    with pytest.raises(GraderError, match="the sandbox could not work"):
        grade(TESTS, RIGHT, "code")
