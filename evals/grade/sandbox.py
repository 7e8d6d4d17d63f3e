"""Runs one program under limits; started by ``code.py`` as a script in a process of its own, with nothing of ours imported.

``python sandbox.py CPU_SECONDS REAL_SECONDS BYTES WALLS``, with program, tests and a word on standard input, each after its
length. The exit status is ``PASSED`` or ``FAILED``; any other means that the sandbox itself could not work.

This process waits and a child of it runs the program, then the tests in the same namespace. The tests are handed over when
the program has ended, the word when the tests have, and it must come back: a program that exits early has not passed, and
while it runs there is nothing to be found that would forge a result. Limits: CPU and real seconds, address space, files and
their size. Where the kernel allows namespaces (``WALLS`` 1) the child sees no network, no other process, no ``/proc``, and
may write to its own folder alone, 16 MB in memory; everything that it started ends with it. An audit hook forbids the same
where there are none; it stops accidents, not a determined attacker: there, run untrusted models' code in a container.
What the tests cannot tell from a right result passes, such as an object that says it equals everything.
"""

import os
import resource
import signal
import sys
from builtins import compile as compile_code
from builtins import exec as execute
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

PASSED, FAILED = 0, 10
_FORBIDDEN = (
    "ctypes.", "os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn",
    "signal.pthread_kill", "socket.bind", "socket.connect", "socket.get", "socket.send", "subprocess.",
)  # fmt: skip
_CHANGES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
)  # fmt: skip
_MOST_WRITTEN = 256  # files opened for writing, of a megabyte each at most
_NEWUSER, _NEWNS, _NEWIPC, _NEWNET, _NEWPID = 0x10000000, 0x20000, 0x8000000, 0x40000000, 0x20000000
_MS_PRIVATE, _MS_REC, _RECURSIVE, _READ_ONLY, _HERE = 1 << 18, 1 << 14, 0x8000, 1, -100
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _walls(libc: Any) -> bool:
    """Namespaces around this process's children; False where the kernel gives none."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_NEWUSER | _NEWNS | _NEWIPC | _NEWNET | _NEWPID) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    folder = os.getcwd().encode()
    read_only = (_READ_ONLY).to_bytes(8, sys.byteorder) + bytes(24)
    done = (
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None),
        libc.mount_setattr(_HERE, b"/", _RECURSIVE, read_only, len(read_only)),
        libc.mount(b"none", folder, b"tmpfs", 0, b"size=16m,nr_inodes=1024"),
        libc.mount(b"none", b"/proc", b"tmpfs", _READ_ONLY, b"size=4k"),
    )
    os.chdir(folder)
    return not any(done)


def _hook(folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    # All that it needs is bound here: what stands in a module the program could change.
    forbidden, changes, most, here = _FORBIDDEN, _CHANGES, _MOST_WRITTEN, os.path.realpath(folder)
    sep, real, written = os.sep, os.path.realpath, [0]
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def own(path: Any) -> bool:
        where = real(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        return where in (here, "/dev/null") or where.startswith(here + sep)

    def forbid(event: str, args: tuple[Any, ...]) -> None:
        refused = event.startswith(forbidden)
        if event == "open" and not isinstance(args[0], int):
            if isinstance(args[2], int) and args[2] & writing:
                written[0] += 1
                refused = written[0] > most or not own(args[0])
            else:
                refused = real(os.fsdecode(args[0])).startswith("/proc")
        elif event.startswith(changes):
            refused = not own(args[0]) or (event in ("os.rename", "os.link") and not own(args[1]))
        if refused:
            raise PermissionError(f"graded code may not do this: {event}")

    return forbid


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError("graded code may not do this")


def _limit(seconds: int, size: int, walled: bool) -> None:
    limits = [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, size),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ]
    if walled:  # otherwise it would count all that the user runs on this machine
        limits.append((resource.RLIMIT_NPROC, 64))
    for kind, limit in limits:
        resource.setrlimit(kind, (limit, limit))


def _run(given: IO[bytes], said: IO[bytes]) -> None:
    """Program, then tests, then the word back."""
    run, make, receive, send, flush = execute, compile_code, _receive, said.write, said.flush
    import builtins

    kept = dict(vars(builtins))
    space: dict[str, Any] = {"__name__": "graded"}
    run(make(receive(given), "program.py", "exec"), space)
    vars(builtins).update(kept)  # or a program could redefine what the tests call
    send(b".")
    flush()
    run(make(receive(given), "tests.py", "exec"), space)
    send(b".")
    flush()
    send(receive(given))
    flush()


def _receive(file: IO[bytes]) -> bytes:
    return file.read(int.from_bytes(file.read(8), "big"))


def _hand(file: IO[bytes], part: bytes) -> None:
    file.write(len(part).to_bytes(8, "big") + part)
    file.flush()


def _child(given: int, said: int, seconds: int, size: int, libc: Any, walled: bool) -> NoReturn:
    try:
        if libc is not None:
            import ctypes

            os.setsid()
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # so that the group's end is still its own
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            # No privilege inside the walls either: whoever has it could take them down.
            libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
        import _posixsubprocess

        _posixsubprocess.fork_exec = _refuse  # it raises no audit event, nor do these
        for module, name in ((signal, "pidfd_send_signal"), (os, "pidfd_open")):
            if hasattr(module, name):
                setattr(module, name, _refuse)
        _limit(seconds, size, walled)
        sys.argv[:] = ["program.py"]
        files = os.fdopen(given, "rb"), os.fdopen(said, "wb")
        sys.addaudithook(_hook(os.getcwd()))
        _run(*files)
    finally:
        os._exit(FAILED)  # threads that it left are not waited for


def _end_children() -> None:
    """Ends what is left of the program's processes: as their reaper this process inherits them."""
    with suppress(OSError):
        while pids := Path("/proc/thread-self/children").read_bytes().split():
            for pid in map(int, pids):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _proved(child: int, parts: list[bytes], given: IO[bytes], said: IO[bytes]) -> bool:
    program, tests, word = parts
    for part in (program, tests):
        _hand(given, part)
        if said.read(1) != b".":
            return False
    _hand(given, word)
    return said.read(len(word)) == word


class _TimeIsUp(Exception):
    pass


def _time_is_up(*_: Any) -> NoReturn:
    raise _TimeIsUp


def main() -> int:
    seconds, real_seconds, size, walls = map(int, sys.argv[1:])
    parts = [_receive(sys.stdin.buffer) for _ in range(3)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    libc, walled = None, False
    if sys.platform == "linux":
        libc = _libc()
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with suppress(OSError, AttributeError):
            walled = bool(walls) and _walls(libc)
    theirs, ours = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs[1])
        os.close(ours[0])
        parts.clear()
        _child(theirs[0], ours[1], seconds, size, libc, walled)
    os.close(theirs[0])
    os.close(ours[1])
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.alarm(real_seconds)
    passed = False
    try:
        with suppress(_TimeIsUp, OSError):
            passed = _proved(child, parts, os.fdopen(theirs[1], "wb"), os.fdopen(ours[0], "rb"))
        signal.alarm(0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not walled:
            _end_children()
    return PASSED if passed else FAILED


if __name__ == "__main__":
    os._exit(main())
