"""Code, graded by unit tests in a process of its own with limits of CPU, memory, time and network."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from .grader import Case, GraderError

_FENCE = re.compile(r"^[ \t]*```([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_SANDBOX = Path(__file__).with_name("sandbox.py")


@dataclass(frozen=True, slots=True)
class CodeGrader:
    """1 where the reply's Python passes the reference, a text of tests (asserts) that runs after it.

    The code is the last fenced block marked as Python, or the last block, or the whole reply. ``seconds`` limits CPU time
    and, four times as long, real time; ``megabytes`` the address space. See ``sandbox.py`` for what is stopped and what is
    not.
    """

    seconds: int = 5
    megabytes: int = 512
    name: str = "code"
    version: str = "1"
    needs_reference: bool = True
    waits: bool = True

    def __post_init__(self) -> None:
        for option in ("seconds", "megabytes"):
            if type(getattr(self, option)) is not int or getattr(self, option) < 1:
                raise GraderError(f"code: {option} must be a whole number from 1 on, got {getattr(self, option)!r}")
        if os.name != "posix":
            raise GraderError("grader code needs a POSIX system: it limits the process by resource limits")

    def grade(self, case: Case) -> float | None:
        """Code that fails, hangs, exits early or asks for more than it may is wrong."""
        if not isinstance(case.reference, str):
            raise GraderError(f"reference: the grader code needs a text of tests, got {type(case.reference).__name__}")
        with tempfile.TemporaryDirectory(prefix="graded-") as folder:
            program, tests = Path(folder, "program.py"), Path(folder, "tests.py")
            program.write_text(code_of(case.text), encoding="utf-8", errors="replace")
            tests.write_text(case.reference, encoding="utf-8", errors="replace")
            return float(self._passes(folder, program, tests))

    def _passes(self, folder: str, program: Path, tests: Path) -> bool:
        word = secrets.token_hex(16).encode()
        read, write = os.pipe()
        arguments = [str(program), str(tests), str(self.seconds), str(self.megabytes << 20), str(write)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(_SANDBOX), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": folder},
                pass_fds=(write,),
                start_new_session=True,
            )
        finally:
            os.close(write)
        try:
            process.communicate(word, timeout=4 * self.seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)
            process.wait()
        with os.fdopen(read, "rb") as said:
            return said.read(len(word)) == word


def code_of(text: str) -> str:
    """The Python in a reply."""
    blocks = _FENCE.findall(text)
    marked = [body for language, body in blocks if language.lower() in ("python", "py", "python3")]
    return str((marked or [body for _, body in blocks] or [text])[-1])
