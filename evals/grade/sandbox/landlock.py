"""Landlock, where the kernel has it: a second wall around files, and one around TCP and abstract sockets."""

import ctypes
import os
import struct
from collections.abc import Iterable

from .syscalls import call, no_new_privileges

_VERSION_ONLY, _PATH_BENEATH, _O_PATH = 1, 1, 0o10000000
_WRITE_FILE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 1, 1 << 2, 1 << 3, 1 << 13, 1 << 14, 1 << 15
_FIRST = (1 << 13) - 1  # all of the first version
_OWN = _WRITE_FILE | _READ_FILE | _READ_DIR | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12  # remove, make, symlink
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE | 1


def restrict(read: Iterable[str], written: Iterable[str], devices: Iterable[str] = ()) -> bool:
    """Lets this process use the named paths alone, and execute nothing.

    Args:
        read: Files and folders that may be read, with everything in them.
        written: Those that may also be changed.
        devices: Files that may be read and written.

    Returns:
        False where the kernel has no Landlock.
    """
    try:
        version = call("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_ONLY))
    except OSError:
        return False
    files = _FIRST | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    files |= _IOCTL_DEVICE if version >= 5 else 0
    handled = struct.pack("=Q", files)
    handled += struct.pack("=Q", 3) if version >= 4 else b""
    handled += struct.pack("=Q", 3) if version >= 6 else b""
    rules = call("landlock_create_ruleset", handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    grants = [(path, _READ_FILE | _READ_DIR) for path in read]
    grants += [(path, _OWN | _REFER | _TRUNCATE) for path in written]
    grants += [(path, _WRITE_FILE | _READ_FILE) for path in devices]
    for path, rights in grants:
        if not os.path.exists(path):
            continue
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
        rights &= files if os.path.isdir(path) else files & _OF_FILES
        rule = struct.pack("=Qi", rights, place)
        call("landlock_add_rule", ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
        os.close(place)
    no_new_privileges()
    call("landlock_restrict_self", ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    return True
