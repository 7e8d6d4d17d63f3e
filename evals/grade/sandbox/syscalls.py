"""The system calls that graded code may make, with their numbers on x86-64 and arm64 (-1: it has none).

An allowlist: any other call fails. It contains no call that starts a process, names another process, opens a socket to
another process, mounts, or creates a device or a named pipe. Calls that are safe with some arguments only are in
``seccomp``.
"""

import ctypes
import os
from typing import Any

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, AUDIT_ARCH_*
PLAIN = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68),
    "readv": (19, 65), "writev": (20, 66), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286),
    "pwritev2": (328, 287), "sendfile": (40, 71), "copy_file_range": (326, 285),
    "open": (2, -1), "openat": (257, 56), "creat": (85, -1), "stat": (4, -1), "lstat": (6, -1), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, -1), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, -1), "readlinkat": (267, 78), "getdents": (78, -1), "getdents64": (217, 61), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "statfs": (137, 43), "fstatfs": (138, 44),
    "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1), "unlink": (87, -1), "unlinkat": (263, 35),
    "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, -1), "linkat": (265, 37),
    "symlink": (88, -1), "symlinkat": (266, 36), "umask": (95, 166), "truncate": (76, 45), "ftruncate": (77, 46),
    "fallocate": (285, 47), "fsync": (74, 82), "fdatasync": (75, 83), "fadvise64": (221, 223), "flock": (73, 32),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214),
    "madvise": (28, 233), "mincore": (27, 232), "msync": (26, 227), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132), "alarm": (37, -1),
    "setitimer": (38, 103), "getitimer": (36, 102), "pause": (34, -1), "restart_syscall": (219, 128),
    "pipe": (22, -1), "pipe2": (293, 59), "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24), "select": (23, -1),
    "pselect6": (270, 72), "poll": (7, -1), "ppoll": (271, 73), "epoll_create": (213, -1), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, -1), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441),
    "eventfd": (284, -1), "eventfd2": (290, 19), "recvfrom": (45, 207),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, -1), "times": (100, 153), "getrusage": (98, 165), "sysinfo": (99, 179),
    "uname": (63, 160), "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgrp": (111, -1),
    "getpgid": (121, 155), "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "getcpu": (309, 168),
    "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260), "waitid": (247, 95), "getrandom": (318, 278),
    "getrlimit": (97, 163),
}  # fmt: skip
# Changing a file's mode or times is safe where all files are the program's own: behind walls only.
OWN_FILES = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "utime": (132, -1), "utimes": (235, -1),
    "futimesat": (261, -1), "utimensat": (280, 88),
}  # fmt: skip
BY_ARGUMENT = {
    "ioctl": (16, 29), "fcntl": (72, 25), "clone": (56, 220), "socketpair": (53, 199), "sendto": (44, 206),
    "tgkill": (234, 131), "prlimit64": (302, 261), "prctl": (157, 167),
}  # fmt: skip
_PR_SET_NO_NEW_PRIVS = 38
# Calls of the launcher itself, for which not every C library has a function.
_NEEDED = {
    "pivot_root": (155, 41), "capset": (126, 91), "mount_setattr": (442, 442), "close_range": (436, 436),
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}  # fmt: skip


class WallsError(Exception):
    """The kernel lacks something that the walls need; the message says what."""


def libc() -> Any:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def machine() -> tuple[int, int]:
    """This machine's column in the tables above, and its number in a filter. Raises WallsError."""
    if (name := os.uname().machine) not in MACHINES:
        raise WallsError(f"there is no filter of system calls for {name}")
    return MACHINES[name]


def call(name: str, *args: Any) -> int:
    """Makes a system call of the launcher, by its name. Raises OSError, WallsError."""
    column, _ = machine()
    return check(name, libc().syscall(ctypes.c_long(_NEEDED[name][column]), *args))


def check(what: str, result: int) -> int:
    """The result of a C function. Raises OSError where it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def no_new_privileges() -> None:
    """Sets no_new_privs: nothing that this process executes can give it more rights. Raises OSError."""
    check("no_new_privs", libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
