"""Starts recordings and gradings quickly: a process that has imported everything once and forks a child for each command.

``python -m tests.evals.record.fork_server`` reads lines ``{"command": "record" or "grade", "argv": [...], "kill_after_s":
seconds or null, "watch": a file whose growth is waited for before, or null, "lines": how many lines it must have, or null}``
and answers each with ``{"status": exit status, -9 where it was killed}``.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.workers import warm_python


def serve() -> None:
    """Serves until standard input ends. What commands print goes to standard error, that is the log."""
    import anthropic
    import openai

    from evals.grade.command import main as grade
    from evals.record.command import main as record

    mains = {"record": record, "grade": grade}
    # The resources of an SDK load on first use, which would take a second of every child's life.
    _ = openai.AsyncOpenAI(api_key="x").chat.completions, anthropic.AsyncAnthropic(api_key="x").messages
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 70
            try:
                if command["file_limit"] is not None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (command["file_limit"],) * 2)
                status = mains[command["command"]](command["argv"])
            finally:
                sys.stdout.flush()
                os._exit(status)
        if command["kill_after_s"] is not None:
            _await_growth(command["watch"], child, command["lines"])
            time.sleep(command["kill_after_s"])
            os.kill(child, command.get("signal", signal.SIGKILL))
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), file=out, flush=True)


def _await_growth(watch: str | None, child: int, lines: int | None) -> None:
    before = _size(watch)
    while watch is not None and (_size(watch) == before if lines is None else _lines(watch) < lines):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)


def _size(path: str | None) -> int:
    return os.path.getsize(path) if path is not None and os.path.exists(path) else 0


def _lines(watch: str) -> int:
    return Path(watch).read_bytes().count(b"\n") if os.path.exists(watch) else 0


class ForkServer:
    """``with ForkServer(log) as server: server.record(...)``; the output of the commands goes to the file ``log``."""

    def __init__(self, log: Path) -> None:
        self.log, self._read = log, 0

    def __enter__(self) -> "ForkServer":
        with open(self.log, "wb") as log:
            self._process = warm_python.Popen(
                [sys.executable, "-m", "tests.evals.record.fork_server"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self.log.read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def output(self) -> str:
        """What the commands printed since the last call."""
        text = self.log.read_bytes()[self._read :]
        self._read += len(text)
        return text.decode()

    def record(
        self,
        argv: list[Any],
        kill_after_s: float | None = None,
        watch: Path | None = None,
        number: int = signal.SIGKILL,
        file_limit: int | None = None,
    ) -> int:
        """Runs one recording, perhaps killed that long after ``watch`` has grown; its exit status (-9 where it was).

        ``file_limit`` is the most bytes that a file may get, as on a disk that is full then.
        """
        return self._run(
            command="record", argv=argv, kill_after_s=kill_after_s, signal=int(number), file_limit=file_limit, watch=watch
        )

    def grade(self, argv: list[Any], watch: Path | None = None, lines: int | None = None) -> int:
        """Grades a recording, perhaps killed once ``watch`` has so many lines; its exit status (-9 where it was killed)."""
        return self._run(command="grade", argv=argv, kill_after_s=None if lines is None else 0, watch=watch, lines=lines)

    def _run(self, *, argv: list[Any], watch: Path | None, **rest: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"signal": int(signal.SIGKILL), "file_limit": None, "lines": None, **rest}
        command |= {"argv": [str(a) for a in argv], "watch": None if watch is None else str(watch)}
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline())["status"])


if __name__ == "__main__":
    serve()
