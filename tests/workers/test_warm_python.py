"""A forked process is to its test what a new one is: arguments, streams, folder, environment, exit status, signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers import warm_python


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "import sys; print(sys.argv, sys.path[0], __name__)", "a", "b c"],
        ["-c", "import os; print(os.getcwd(), os.environ['ONE'], 'TWO' in os.environ, os.getsid(0) == os.getpid())"],
        ["-c", "import sys; print(sys.stdin.read()); print('x', file=sys.stderr); sys.exit(3)"],
        ["-c", "import sys; sys.exit('a message')"],
        ["-c", "import atexit; atexit.register(print, 'at exit')"],
        ["-c", "import threading, time; threading.Thread(target=lambda: (time.sleep(0.02), print('thread'))).start()"],
        ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"],
        ["-c", "import os; print(os.listdir('/proc/self/fd') if os.path.exists('/proc') else '')"],
        ["-m", "own", "a"],
        ["-m", "cascade", "--version"],
    ],
)
@pytest.mark.parametrize("own_session", [False, True])
def test_a_fork_does_what_a_new_process_does(tmp_path: Path, words: list[str], own_session: bool) -> None:
    """Word for word, and with the same status."""
    (tmp_path / "own.py").write_text("import sys; print(__name__, sys.argv); sys.exit(5)")
    environment = {**{k: v for k, v in os.environ.items() if k != "TWO"}, "ONE": "1"}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "start_new_session": own_session, "text": True}
    command = [sys.executable, *words]
    new = subprocess.run(command, input="in", capture_output=True, timeout=60, **options)
    fork = warm_python.run(command, input="in", capture_output=True, timeout=60, **options)
    assert (fork.returncode, fork.stdout, fork.stderr) == (new.returncode, new.stdout, new.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="another system starts a new process")
def test_a_fork_has_everything_imported_and_is_a_child() -> None:
    """What is slow to import is there at once, and whoever started the process waits for it."""
    code = "import sys; print('openai' in sys.modules, 'uvicorn' in sys.modules); sys.stdin.read()"
    with warm_python.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "True True\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM


def test_an_uncaught_error_is_a_traceback() -> None:
    """It ends with the error, and the status is 1."""
    done = warm_python.run([sys.executable, "-c", "1 / 0"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("words", [["-I", "-c", "import sys; print(sys.flags.isolated)"], ["-c", "print(1)"]])
def test_what_cannot_be_forked_starts_anew(words: list[str]) -> None:
    """Options of the interpreter, and variables that it reads when it starts."""
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    assert warm_python.run([sys.executable, *words], env=environment, capture_output=True, text=True).stdout == "1\n"
