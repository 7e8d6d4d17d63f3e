"""Namespaces around a process, and a tree of files that holds a Python installation and nothing else."""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from .syscalls import WallsError, call, check, libc

NOBODY = 65534
SMALL = "/tmp"  # the one folder that can be written, in memory
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_NEW = 0x10000000 | 0x20000 | 0x8000000 | 0x4000000 | 0x40000000 | 0x20000000  # user, mount, IPC, UTS, network, pid
_BIND, _PRIVATE, _REC, _NOSUID, _NODEV, _NOEXEC, _DETACH = 0x1000, 1 << 18, 1 << 14, 2, 4, 8, 2
_AT_RECURSIVE, _AT_FDCWD, _AT_EMPTY = 0x8000, -100, 0
_ATTR_READ_ONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_BASE = b"/proc"  # where the tree is put together: no Python is installed there


def enter() -> None:
    """Enters new namespaces; the parent must then write the user map (``map_users``). Raises WallsError."""
    if libc().unshare(_NEW) != 0:
        raise WallsError("the kernel gives this user no namespaces")


def map_users(pid: int) -> bool:
    """Writes the user map of a process that has entered new namespaces. Only root can map another user than its own.

    Returns:
        Whether the process can become nobody.
    """
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        with suppress(OSError):
            for name in ("gid_map", "uid_map"):
                _write(pid, name, f"0 0 1\n{NOBODY} {NOBODY} 1\n")
            return True
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        _write(pid, name, text)
    return False


def _write(pid: int, name: str, text: str) -> None:
    file = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def installation(site: Sequence[str]) -> list[str]:
    """The folders and files that Python needs to run and to import: its own, ``site``, and shared libraries."""
    paths = sorted({path for path in (*own_installation(), *site) if os.path.exists(path)})
    return [path for path in paths if not any(path.startswith(other + "/") for other in paths)]


@lru_cache(maxsize=1)
def own_installation() -> list[str]:
    """Those of them that exist on every machine."""
    paths = [os.path.dirname(os.__file__), "/lib64", "/usr/lib64", "/usr/share/zoneinfo"]
    for prefix in {sys.base_prefix, sys.base_exec_prefix}:
        library = Path(prefix, "lib")
        # A prefix of its own holds only Python and its libraries; in the system's prefix they are listed one by one.
        paths += map(str, library.glob("libpython*") if prefix in ("/usr", "/usr/local") else [library])
    for base in map(Path, ("/lib", "/usr/lib")):
        paths += map(str, base.glob("*-linux-*"))
    if os.path.exists("/usr/lib/libc.so.6") or any(Path("/lib").glob("libc.musl-*")):
        paths += ["/usr/lib", "/lib"]  # here libraries have no folder of their own
    return paths


def build_tree(paths: Sequence[str], hidden: Sequence[str]) -> None:
    """Builds a read-only tree of the paths, with ``SMALL`` and the devices, and makes it this process's root.

    Args:
        paths: What the tree contains, under the same names as outside.
        hidden: Folders in them that look empty.

    Raises:
        OSError: The kernel does not allow it.
    """
    base, functions = _BASE.decode(), libc()

    def mount(source: bytes, target: str, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
        check(f"mount {target}", functions.mount(source, target.encode(), kind, flags, options))

    mount(b"none", "/", None, _REC | _PRIVATE)
    mount(b"none", base, b"tmpfs", _NOSUID, b"size=1m,nr_inodes=4k,mode=755")
    # First: a virtual environment may lie beneath it, and would be covered by a later mount.
    os.makedirs(base + SMALL, exist_ok=True)
    mount(b"none", base + SMALL, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"size=16m,nr_inodes=1k,mode=1777")
    for path in paths:
        place = base + path
        _make_place(place, os.path.isdir(path))
        mount(path.encode(), place, None, _BIND | _REC)
        _set(place, _ATTR_READ_ONLY | _ATTR_NOSUID | _ATTR_NODEV)
    for path in hidden:
        if os.path.isdir(base + path):
            mount(b"none", base + path, b"tmpfs", _NOSUID | _NODEV | _NOEXEC | 1, b"size=4k,mode=755")
    for device in DEVICES:
        if os.path.exists(device):
            _make_place(base + device, False)
            mount(device.encode(), base + device, None, _BIND)
            _set(base + device, _ATTR_READ_ONLY | _ATTR_NOSUID)
    os.chdir(base)
    call("pivot_root", b".", b".")
    check("umount2", functions.umount2(b".", _DETACH))
    os.chdir("/")
    _set("/", _ATTR_READ_ONLY, recursive=False)
    os.chdir(SMALL)


def _make_place(place: str, folder: bool) -> None:
    os.makedirs(place if folder else os.path.dirname(place), exist_ok=True)
    if not folder and not os.path.exists(place):
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _set(place: str, attributes: int, recursive: bool = True) -> None:
    mount_attr = attributes.to_bytes(8, sys.byteorder) + bytes(24)
    flags = ctypes.c_uint(_AT_RECURSIVE if recursive else _AT_EMPTY)
    call("mount_setattr", ctypes.c_int(_AT_FDCWD), place.encode(), flags, mount_attr, ctypes.c_size_t(len(mount_attr)))


def become_nobody() -> None:
    """Gives up root's user and groups, where ``map_users`` returned that this is possible. Raises OSError."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def drop_capabilities() -> None:
    """Gives up all capabilities inside the namespaces: a process that has them could undo the walls."""
    call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def forked(run: Callable[[], Any]) -> int:
    """Forks a child process that calls ``run`` and never returns. Returns its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(1)
    return pid
