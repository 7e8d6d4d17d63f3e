"""A process for one answer: builds the walls, starts candidate and checker, and reports the checker's verdict.

Standard input contains, each after its length: the ``Order``, the program, the tests. The result is one line of JSON on
standard output: the outcome and its reason. The program's process is started before the tests are read, so that they are
nowhere in its memory; and it cannot reach this process.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, NoReturn

from . import candidate, checker, landlock, namespaces, seccomp
from .order import Order
from .syscalls import WallsError, call, libc, machine
from .wire import TESTS

NO_WALLS, TROUBLE = "no walls", "trouble"  # in addition to the checker's own outcomes
_SLACK = 5
_UP = b"up"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class _TimeIsUp(Exception):
    pass


def _time_is_up(*_: Any) -> NoReturn:
    raise _TimeIsUp


def main() -> int:
    """Grades once; returns the exit code, which is 0 whatever the outcome."""
    order = Order(**json.loads(_frame()))
    signal.alarm(order.real_seconds + _SLACK)  # ends this process, and with it the others, if it hangs
    sys.path[:] = [*sys.path, *order.site]
    sys.dont_write_bytecode = True
    with suppress(AttributeError, OSError):
        libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started: list[int] = []
    try:
        outcome = _grade(order, started)
    except WallsError as error:
        outcome = [NO_WALLS, str(error)]
    except _TimeIsUp:
        outcome = [checker.FAILED, f"not done after {order.real_seconds} seconds"]
    except OSError as error:
        outcome = [TROUBLE, str(error)]
    signal.alarm(0)
    _end(started)
    os.write(1, json.dumps(outcome).encode())
    return 0


def _grade(order: Order, started: list[int]) -> list[str]:
    walled = True
    program = _frame()
    (asked_in, asked_out), (replied_in, replied_out), (verdict_in, verdict_out) = os.pipe(), os.pipe(), os.pipe()
    try:
        run = lambda: candidate.main(program, asked_in, replied_out, TESTS)  # noqa: E731
        _start(order, run, (asked_in, replied_out), True, started)
    except WallsError:
        if not order.unsafe:
            raise
        walled = False
        _start(order, run, (asked_in, replied_out), False, started)
    tests = _frame()
    test = lambda: checker.main(tests, replied_in, asked_out, verdict_out)  # noqa: E731
    _start(order, test, (replied_in, asked_out, verdict_out), walled, started)
    for one in (asked_in, asked_out, replied_in, replied_out, verdict_out):
        os.close(one)
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.alarm(order.real_seconds)
    output = _all_of(verdict_in)
    # A checker that was ended by a limit has written no verdict: the tests have not passed.
    verdict: list[str] = json.loads(output) if output else [checker.FAILED, "the tests were ended by a limit"]
    return verdict


def _frame() -> bytes:
    return _exactly(int.from_bytes(_exactly(8), "big"))


def _exactly(length: int) -> bytes:
    """Reads exactly the requested number of bytes: the rest is for another process."""
    parts = bytearray()
    while len(parts) < length:
        part = os.read(0, length - len(parts))
        if not part:
            raise OSError("the order has ended early")
        parts += part
    return bytes(parts)


def _all_of(file: int) -> bytes:
    parts = bytearray()
    while part := os.read(file, 65536):
        parts += part
    return bytes(parts)


def _start(order: Order, run: Callable[[], NoReturn], open_fds: tuple[int, ...], walled: bool, started: list[int]) -> None:
    """Starts a process that calls ``run`` behind walls, or behind those that this machine has.

    Raises:
        WallsError: The kernel does not support them.
        OSError: A process could not be started.
    """
    up_in, up_out = os.pipe()
    go_in, go_out = os.pipe()

    def begin() -> None:
        try:
            _enter(order, run, open_fds, walled, up_out, go_in)
        except (WallsError, AttributeError) as error:
            os.write(up_out, b"!" + str(error).encode())
        except OSError as error:
            os.write(up_out, (b"!" if walled else b"?") + str(error).encode())

    pid = namespaces.forked(begin)
    started.append(pid)
    os.close(up_out)
    os.close(go_in)
    try:
        if walled and os.read(up_in, 1) == b"u":
            os.write(go_out, b"n" if namespaces.map_users(pid) else b"s")
        status = _all_of(up_in)
    except OSError as error:
        raise WallsError(str(error)) from None
    finally:
        os.close(up_in)
        os.close(go_out)
    if not status.endswith(_UP):
        why = status.partition(b"!")[2].decode(errors="replace")
        if walled or why:
            raise WallsError(why or "the kernel gives this user no namespaces")
        raise OSError(status.decode(errors="replace") or "the process has ended early")


def _enter(order: Order, run: Callable[[], NoReturn], open_fds: tuple[int, ...], walled: bool, up: int, go: int) -> None:
    os.environ.clear()
    os.environ.update(_ENVIRONMENT, HOME=namespaces.SMALL if walled else order.folder)
    paths = namespaces.installation(order.site)
    _only_die_with_parent()
    if not walled:
        os.setsid()
        os.chdir(order.folder)
        _confine(order, run, open_fds, up, walled=False, paths=paths)
        return
    machine()
    namespaces.enter()
    os.write(up, b"u")
    nobody = os.read(go, 1) == b"n"
    namespaces.build_tree(paths, order.hidden)
    child = namespaces.forked(lambda: _first(order, run, open_fds, up, nobody, paths))
    os.closerange(0, max(up, go, *open_fds) + 1)  # otherwise the other ends of these pipes would never see end-of-file
    os.waitpid(child, 0)
    os._exit(0)


def _first(
    order: Order, run: Callable[[], NoReturn], open_fds: tuple[int, ...], up: int, nobody: bool, paths: list[str]
) -> None:
    """Runs in the first process of the new namespace; when it ends, everything that it started ends."""
    os.setsid()
    try:
        if nobody:
            namespaces.become_nobody()
            if not os.access(os.__file__, os.R_OK):
                raise WallsError("this Python cannot be read by the user nobody")
        namespaces.drop_capabilities()
        _only_die_with_parent()
        _confine(order, run, open_fds, up, walled=True, paths=paths)
    except (OSError, WallsError, AttributeError) as error:
        os.write(up, b"!" + str(error).encode())


def _confine(
    order: Order, run: Callable[[], NoReturn], open_fds: tuple[int, ...], up: int, *, walled: bool, paths: list[str]
) -> None:
    """Sets limits, closes files, installs Landlock and the system call filter, then calls ``run``."""
    null = os.open(os.devnull, os.O_RDWR)
    for one in (0, 1, 2):
        os.dup2(null, one)
    edge = 3
    for one in sorted({*open_fds, up}):
        os.closerange(edge, one)
        edge = one + 1
    os.closerange(edge, edge + 64)
    with suppress(OSError, WallsError):
        call("close_range", ctypes.c_uint(edge), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(0))
    _limit(order, walled)
    folder = namespaces.SMALL if walled else order.folder
    with suppress(WallsError, OSError, AttributeError) if not walled else nullcontext():
        landlock.restrict(paths if not walled else ["/"], [folder], namespaces.DEVICES)
        seccomp.install(os.getpid(), own_files=walled)
    os.write(up, _UP)
    os.close(up)
    run()


def _limit(order: Order, walled: bool) -> None:
    limits = [
        (resource.RLIMIT_CPU, order.seconds),
        (resource.RLIMIT_AS, order.memory),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]
    if walled:  # otherwise it would count everything that the user runs on this machine
        limits.append((resource.RLIMIT_NPROC, 64))
    for kind, limit in limits:
        with suppress(ValueError, OSError) if not walled else nullcontext():
            resource.setrlimit(kind, (limit, limit))


def _only_die_with_parent() -> None:
    with suppress(AttributeError):
        libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(started: list[int]) -> None:
    """Ends both processes and all their descendants, which this process inherits as their subreaper."""
    left = list(started)
    while left:
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        left = []
        with suppress(OSError), open("/proc/thread-self/children", encoding="ascii") as file:
            left = [int(pid) for pid in file.read().split()]
