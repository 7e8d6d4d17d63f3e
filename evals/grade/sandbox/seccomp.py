"""A system call filter (seccomp): a call that is not allowed fails with EPERM."""

import ctypes
import errno
import struct
from collections.abc import Mapping

from .syscalls import BY_ARGUMENT, OWN_FILES, PLAIN, check, libc, machine, no_new_privileges

_LOAD, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_PR_SET_SECCOMP, _FILTER = 22, 2
_NEWEST_KNOWN = 424  # from this number on, the C library works without a call that the kernel does not seem to have
_X32 = 0x40000000  # the same calls under other numbers
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020080
_TERMINAL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIO(N)CLEX
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)  # no F_SETOWN, F_SETSIG, F_NOTIFY: they send signals
_PRCTL = (15, 16, 0x53564D41)  # the thread's name, and a memory region's
_AF_UNIX, _SOCK_STREAM, _SOCK_FLAGS = 1, 1, 0o2004000

Instruction = tuple[int, int, int, int]


def _argument(index: int, high: bool = False) -> Instruction:
    """Loads 32 bits of an argument; both machines are little-endian."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4 * high)


def _one_of(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allows the call where the argument is one of the values. The kernel reads these as 32 bits itself."""
    checks = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(index), *checks, (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _by_argument(pid: int) -> Mapping[str, list[Instruction]]:
    allow, refuse = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERROR | errno.EPERM)
    return {
        "ioctl": _one_of(1, _TERMINAL),
        "fcntl": _one_of(1, _FCNTL),
        "prctl": _one_of(0, _PRCTL),
        "tgkill": _one_of(0, (pid,)),
        "prlimit64": _one_of(0, (0, pid)),
        # A thread, but no process or namespace.
        "clone": [
            _argument(0),
            (_AND, 0, 0, _CLONE_THREAD | _CLONE_NEW),
            (_EQUAL, 0, 1, _CLONE_THREAD),
            allow,
            refuse,
        ],
        # An event loop wakes itself through a pair of streams. A pair of datagram sockets could reach others by name.
        "socketpair": [
            _argument(0),
            (_EQUAL, 0, 4, _AF_UNIX),
            _argument(1),
            (_AND, 0, 0, 0xFFFFFFFF ^ _SOCK_FLAGS),
            (_EQUAL, 0, 1, _SOCK_STREAM),
            allow,
            refuse,
        ],
        "sendto": [
            _argument(4),
            (_EQUAL, 0, 3, 0),
            _argument(4, high=True),
            (_EQUAL, 0, 1, 0),
            allow,
            refuse,
        ],
    }


def program(pid: int, own_files: bool) -> bytes:
    """The filter in the kernel's format.

    Args:
        pid: The process that it is for, which may send signals to its own threads.
        own_files: Whether all files in sight are the program's own, so that it may change their modes and times.

    Raises:
        WallsError: There is no filter for this machine.
    """
    column, architecture = machine()
    instructions: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for numbers in (PLAIN | OWN_FILES if own_files else PLAIN).values():
        if numbers[column] >= 0:
            instructions += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ALLOW)]
    for name, block in _by_argument(pid).items():
        if BY_ARGUMENT[name][column] >= 0:
            instructions += [(_EQUAL, 0, len(block), BY_ARGUMENT[name][column]), *block]
    instructions += [
        (_GREATER, 0, 1, _NEWEST_KNOWN),
        (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


def install(pid: int, own_files: bool) -> None:
    """Installs the filter in this process, irrevocably. Raises OSError, WallsError."""
    filter_ = program(pid, own_files)
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    # struct sock_fprog: a count, and after padding a pointer.
    described = ctypes.create_string_buffer(struct.pack("@HP", len(filter_) // 8, ctypes.addressof(buffer)))
    no_new_privileges()
    check("seccomp", libc().prctl(_PR_SET_SECCOMP, _FILTER, described, 0, 0))
