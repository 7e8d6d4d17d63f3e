"""Code, graded by unit tests in a process of its own with limits of CPU, memory, time and network."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from signal import SIGKILL
from typing import Any

from .protocol import GraderError, GradingCase

_FENCE = re.compile(r"^[ \t]*```([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_FALSE_END = "\nraise AssertionError\n"


@dataclass(frozen=True, slots=True)
class CodeGrader:
    """1 where the reply's Python passes the reference, a text of tests (asserts) that runs after it.

    The code is the last fenced block marked as Python, or the last block, or the whole reply. ``seconds`` limits CPU time
    and, four times as long, real time; ``megabytes`` the address space. See ``sandbox.py`` for what is stopped and what is
    not; ``walls`` off does without the kernel's namespaces.

    Code that passes is run once more with tests that must fail at their end: code that passes those too has forged its
    result. And tests that pass without any code are an error: they test nothing.
    """

    seconds: int = 5
    megabytes: int = 512
    walls: bool = True
    name: str = "code"
    version: str = "2"
    needs_reference: bool = True
    waits: bool = True

    def __post_init__(self) -> None:
        for option in ("seconds", "megabytes"):
            if type(getattr(self, option)) is not int or getattr(self, option) < 1:
                raise GraderError(f"code: {option} must be a whole number from 1 on, got {getattr(self, option)!r}")
        if not isinstance(self.walls, bool):
            raise GraderError(f"code: walls must be true or false, got {self.walls!r}")
        if os.name != "posix":
            raise GraderError("grader code needs a POSIX system: it limits the process by resource limits")

    def check(self, reference: Any) -> None:
        """Raises GraderError where the reference is no Python."""
        if not isinstance(reference, str):
            raise GraderError(f"reference: the grader code needs a text of tests, got {type(reference).__name__}")
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(reference, "tests", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise GraderError(f"reference: the tests are no Python: {error}") from None

    def grade(self, case: GradingCase) -> float | None:
        """Code that fails, hangs, exits early or asks for more than it may is wrong."""
        self.check(case.reference)
        program, tests = code_of(case.text), str(case.reference)
        if not self._passes(program, tests):
            return 0.0
        if _test_nothing(self, tests):
            raise GraderError("reference: the tests pass without any code; let them call what they define")
        return float(not self._passes(program, tests + _FALSE_END))

    def _passes(self, program: str, tests: str) -> bool:
        from . import sandbox  # not everywhere can it be imported

        parts = [program.encode(errors="replace"), tests.encode(errors="replace"), secrets.token_hex(16).encode()]
        given = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        real_seconds = 4 * self.seconds
        limits = [str(self.seconds), str(real_seconds), str(self.megabytes << 20), str(int(self.walls))]
        with tempfile.TemporaryDirectory(prefix="graded-") as folder:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", sandbox.__file__, *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": folder},
                start_new_session=True,
            )
            try:
                process.communicate(given, timeout=real_seconds + 10)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
        # A signal is the program's doing; any other status is trouble of ours, and no answer's fault.
        if process.returncode > 0 and process.returncode != sandbox.FAILED:
            raise GraderError(f"code: the sandbox could not work (exit status {process.returncode}); see sandbox.py")
        return process.returncode == sandbox.PASSED


@lru_cache(maxsize=4096)
def _test_nothing(one: CodeGrader, tests: str) -> bool:
    return one._passes("", tests)


def code_of(text: str) -> str:
    """The Python in a reply."""
    blocks = _FENCE.findall(text)
    marked = [body for language, body in blocks if language.lower() in ("python", "py", "python3")]
    return str((marked or [body for _, body in blocks] or [text])[-1])
