"""Runs one program under limits; started by ``code.py`` as a script in a process of its own, with nothing of ours imported.

``python sandbox.py PROGRAM TESTS CPU_SECONDS BYTES DESCRIPTOR`` with the word that proves success on standard input. The
program runs first, then the tests in the same namespace; the word is written to the file descriptor only where both end
well, so that a program that exits early has not passed. Limits: CPU seconds, address space, files, processes, no network.

It stops accidents, not a determined attacker: run untrusted models' code in a container or a virtual machine.
"""

import os
import resource
import sys

_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.kill",
    "ctypes.",
)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _no_network() -> None:
    """A network namespace with nothing in it, where the kernel allows one; the audit hook holds in any case."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    except (ImportError, OSError, AttributeError):
        pass


def _forbid(event: str, _: tuple[object, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"graded code may not do this: {event}")


def main() -> None:
    program, tests, seconds, size, descriptor = sys.argv[1:]
    word = sys.stdin.buffer.read()
    _no_network()
    limits = (
        (resource.RLIMIT_CPU, int(seconds)),
        (resource.RLIMIT_AS, int(size)),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    )
    for kind, limit in limits:
        resource.setrlimit(kind, (limit, limit))
    sources = []
    for path in (program, tests):
        with open(path, encoding="utf-8") as file:
            sources.append((path, file.read()))
    sys.addaudithook(_forbid)
    space: dict[str, object] = {"__name__": "graded"}
    for path, source in sources:
        exec(compile(source, path, "exec"), space)
    os.write(int(descriptor), word)


if __name__ == "__main__":
    main()
