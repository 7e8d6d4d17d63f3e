"""Python processes that start in a few milliseconds: each is the fork of one that has imported everything once.

``Popen`` and ``run`` stand for those of ``subprocess`` where a test needs a process of its own, with its standard streams,
signals and exit status, but where its imports are not what is tested: half a second of CPU time each. Commands
``[sys.executable, "-m", module, ...]`` and ``[sys.executable, "-c", code, ...]`` are forked. Any other command, an
environment with other PYTHON variables, and any system but Linux start a new interpreter as ever.

A command that starts gateways (``--workers``, or the variable for it; ``--serve``) has such a server of its own, which
forks them.

The server forks twice, and its child ends: Linux hands the orphan to the nearest ancestor that asks for orphans
(``PR_SET_CHILD_SUBREAPER``), which is the tests' process. So that process waits for it as for any child of its own.
"""

import atexit
import ctypes
import fcntl
import gc
import json
import os
import runpy
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import warnings
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# What commands and the programs in tests import.
MODULES = (
    "aiohttp", "anthropic.resources.messages", "cascade.commands.ask", "cascade.commands.check",
    "cascade.commands.serve", "cascade.default_client", "cascade.gateway.app", "cascade.gateway.schemas.process",
    "cascade.gateway.serve.server", "cascade.gateway.serve.supervisor", "cascade.journal.postgres",
    "cascade.journal.read.commands",
    "cascade.journal.sqlite", "cascade.models.anthropic", "cascade.models.http", "cascade.models.openai",
    "evals.grade.command", "evals.record.command", "evals.recording.command", "evals.replay.command", "httpx2", "jsonschema",
    "openai.resources.chat", "openai.resources.responses", "prometheus_client.multiprocess", "psycopg", "uvicorn",
    "uvloop",
)  # fmt: skip
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h
_LENGTH = struct.Struct("I")


class Popen(subprocess.Popen[Any]):
    """A process as of ``subprocess.Popen``, forked where that is possible."""

    def _execute_child(  # type: ignore[override]
        self,
        args: Any,
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: tuple[int, ...],
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        *rest: Any,
    ) -> None:
        """In place of the method of ``subprocess`` that starts a program; ``rest`` are the pipes' ends, and options."""
        pipes, options = rest[:6], rest[6:]
        variables = dict(os.environ if env is None else env)
        words = [os.fspath(word) for word in args] if isinstance(args, (list, tuple)) else []
        forked = (
            sys.platform == "linux"
            and words[:1] == [sys.executable]
            and words[1:2] in (["-m"], ["-c"])
            and not (executable or preexec_fn or shell)
            and close_fds
            # Signals as ever; no other user or mask; perhaps a session of its own; no group.
            and options in ((True, None, None, None, -1, own_session, -1) for own_session in (False, True))
            and _interpreter_settings(variables) == _interpreter_settings(os.environ)
            and variables.get("PYTHONWARNINGS") in (None, "ignore")
        )
        if not forked:
            inherited = (
                args,
                executable,
                preexec_fn,
                close_fds,
                pass_fds,
                cwd,
                env,
                startupinfo,
                creationflags,
                shell,
                *rest,
            )
            super()._execute_child(*inherited)  # type: ignore[misc]
            return
        theirs = [end if end != -1 else i for i, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {
            "words": words[1:],
            "folder": os.getcwd() if cwd is None else os.fspath(cwd),
            "environment": variables,
            "descriptors": [0, 1, 2, *pass_fds],
            "own_session": options[5],
            "forks_gateways": not {"--workers", "--serve"}.isdisjoint(words) or bool(variables.get("CASCADE_WORKERS")),
        }
        self.pid = _server().start(request, [*theirs, *pass_fds])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(command: Any, *, input: Any = None, check: bool = False, timeout: float | None = None, **options: Any) -> Any:
    """As ``subprocess.run``."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _interpreter_settings(environment: Any) -> dict[str, str]:
    """The variables that an interpreter reads when it starts, but for those that a fork can still follow."""
    followed = ("PYTHONPATH", "PYTHONWARNINGS", "PYTHONUNBUFFERED")
    return {name: value for name, value in environment.items() if name.startswith("PYTHON") and name not in followed}


class _Server:
    """The process that forks, as the tests' process sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=variables, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()
        atexit.register(self._end)

    def start(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Starts a process that has these descriptors. Returns its id."""
        text = json.dumps(request).encode()
        with self._lock:
            _adopt_orphans(True)
            try:
                socket.send_fds(self._socket, [_LENGTH.pack(len(text))], descriptors)
                self._socket.sendall(text)
                return int(_LENGTH.unpack(self._socket.recv(_LENGTH.size, socket.MSG_WAITALL))[0])
            finally:
                _adopt_orphans(False)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


class _OwnServer(_Server):
    """The same for a process that was itself forked: its own fork, which has run none of its program yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._lock, self._socket = threading.Lock(), connection


_server = cache(_Server)


def _adopt_orphans(on: bool) -> None:
    """Whether the descendants of this process that lose their parent become its children."""
    if ctypes.CDLL(None).prctl(_SUBREAPER, int(on), 0, 0, 0):
        raise OSError("prctl failed")


def _serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Forks a process for each request until the other end closes. Returns in each, with its request and its descriptors."""
    while True:
        head, received, _, _ = socket.recv_fds(connection, _LENGTH.size, 32)
        if not head:
            os._exit(0)
        request = json.loads(connection.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL))
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                connection.close()  # its number may be another descriptor's from here on
                return request, received
            os.write(writing, _LENGTH.pack(child))
            os._exit(0)
        os.waitpid(between, 0)
        connection.sendall(os.read(reading, _LENGTH.size))
        for descriptor in (reading, writing, *received):
            os.close(descriptor)


def _become(request: dict[str, Any], received: list[int]) -> None:
    """Gives this fork what a new process would have."""
    from prometheus_client import values

    wanted = request["descriptors"]
    above = max(wanted) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in received]
    for descriptor, number in zip(moved, wanted, strict=True):
        os.dup2(descriptor, number)
    in_order = sorted(wanted)
    for low, high in zip(in_order, [*in_order[1:], 1 << 20], strict=True):
        os.closerange(low + 1, high)
    if request["own_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    # Read from the environment at import.
    values.ValueClass = values.get_value_class()


def _fork_own_server() -> socket.socket | None:
    """Forks a server for what this process will start. Returns its connection in the server, None in this process."""
    global _server
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # this process's own streams end with it
            os.dup2(nothing, stream)
        os.close(nothing)
        return theirs
    theirs.close()
    own = _OwnServer(ours)
    _server = lambda: own  # noqa: E731
    subprocess.Popen = Popen  # type: ignore[misc]
    return None


def _run(words: list[str]) -> None:
    """Runs what the interpreter's arguments name."""
    option, program, *arguments = words
    path = os.environ.get("PYTHONPATH")
    sys.path[:1] = [os.getcwd() if option == "-m" else "", *(path.split(os.pathsep) if path else [])]
    if os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("ignore")
    sys.argv = [option, *arguments]
    if option == "-m":
        sys.modules.pop(program, None)
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), main.__dict__)


def _status(error: BaseException) -> int | None:
    """The exit status of a program that ended with this; None where the interpreter itself ends it, as by a signal."""
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
        return code if isinstance(code, int) else 1
    return 1 if isinstance(error, Exception) else None


def main() -> None:
    """Serves; in each fork, runs its program."""
    status: int | None = 0

    def skip_teardown() -> None:
        """Ends the process, the last of what is done at its exit: to free thousands of modules would take 0.1 s."""
        if status is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)

    atexit.register(skip_teardown)  # what is registered first runs last
    for name in MODULES:
        __import__(name)
    gc.collect()
    gc.freeze()  # else a collection would touch, and so copy, every page that a fork shares
    connection: socket.socket | None = socket.socket(fileno=int(sys.argv[1]))
    while connection is not None:
        request, received = _serve(connection)
        _become(request, received)
        connection = _fork_own_server() if request["forks_gateways"] else None
    try:
        _run(request["words"])
    except BaseException as error:
        status = _status(error)
        raise


if __name__ == "__main__":
    main()
