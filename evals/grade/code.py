"""Grades code by unit tests. Code and tests run in two separate processes, both in a kernel sandbox."""

import json
import os
import re
import site
import sys
import tempfile
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .protocol import GraderError, GradingCase
from .sandbox.client import SERVER
from .sandbox.order import Order

_FENCE = re.compile(r"^[ \t]*```([A-Za-z0-9_+-]*)[^\n]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
RISK = "answers run with your rights: they may read and change your files and keys, and forge their grades"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeGrader:
    """1 where the reply's Python passes the reference, a text of tests (asserts) that use what it defines.

    The code is the last fenced block marked as Python, or the last block, or the whole reply. It runs in a process of its
    own and the tests in another, to which it can only return values;
    ``docs/reference/graders.md`` says what cannot be tested so; the grade is then None. Where the kernel gives no walls,
    nothing is run unless ``unsafe``.

    Attributes:
        seconds: CPU time of each of the two and, four times as long, real time.
        megabytes: Address space of each.
        unsafe: Run answers without walls where there are none.
    """

    seconds: int = 5
    megabytes: int = 512
    unsafe: bool = False
    name: str = "code"
    version: str = "3"
    needs_reference: bool = True
    waits: bool = True

    def __post_init__(self) -> None:
        for option in ("seconds", "megabytes"):
            if type(getattr(self, option)) is not int or getattr(self, option) < 1:
                raise GraderError(f"code: {option} must be a whole number from 1 on, got {getattr(self, option)!r}")
        if not isinstance(self.unsafe, bool):
            raise GraderError(f"code: unsafe must be true or false, got {self.unsafe!r}")
        if os.name != "posix":
            raise GraderError("grader code needs a POSIX system: it limits the process by resource limits")

    def check(self, reference: Any) -> None:
        """Raises GraderError if the reference is not valid Python."""
        if not isinstance(reference, str):
            raise GraderError(f"reference: the grader code needs a text of tests, got {type(reference).__name__}")
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(reference, "tests", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise GraderError(f"reference: the tests are not Python: {error}") from None

    def grade(self, case: GradingCase) -> float | None:
        """Code that fails, hangs, exits early or exceeds its limits is wrong.

        Args:
            case: The answer, and the tests as its reference.

        Returns:
            1.0 or 0.0, or None where the tests hand over or rest on what is not a value.

        Raises:
            GraderError: The tests test nothing, or this machine has no sandbox.
        """
        self.check(case.reference)
        tests = str(case.reference)
        outcome = self._outcome(code_of(case.text), tests)
        if outcome == "passed" and _test_nothing(self, tests):
            raise GraderError("reference: the tests pass without any code; let them call what they define")
        return None if outcome == "untold" else float(outcome == "passed")

    def _outcome(self, program: str, tests: str) -> str:
        """``passed``, ``failed`` or ``untold``. Raises GraderError if nothing could be run."""
        outcome, why = run(self, program, tests)
        if outcome == "no walls":
            raise GraderError(
                f"code: this machine offers no isolation to run answers in ({why}); grade on Linux with user namespaces "
                f"and seccomp allowed (docs/reference/graders.md), or say --unsafe: {RISK}"
            )
        if outcome not in ("passed", "failed", "untold"):
            raise GraderError(f"code: the sandbox could not work ({why})")
        return outcome


@lru_cache(maxsize=4096)
def _test_nothing(one: CodeGrader, tests: str) -> bool:
    return one._outcome("", tests) == "passed"


def run(one: CodeGrader, program: str, tests: str) -> tuple[str, str]:
    """Runs a program and its tests under a grader's limits; returns the outcome and the reason."""
    with tempfile.TemporaryDirectory(prefix="graded-") if one.unsafe else nullcontext("") as folder:
        order = Order(
            seconds=one.seconds,
            real_seconds=4 * one.seconds,
            memory=one.megabytes << 20,
            unsafe=one.unsafe,
            folder=os.path.realpath(folder) if folder else "",
            site=_packages(),
            hidden=tuple(str(Path(home) / own) for home in _packages() for own in _OURS),
        )
        parts = [json.dumps(asdict(order)).encode(), program.encode(errors="replace"), tests.encode(errors="replace")]
        return SERVER.run(parts, order.real_seconds + 10)


_OURS = (__name__.partition(".")[0], "cascade", "judges")  # these folders may contain recordings with their answers


@lru_cache(maxsize=1)
def _packages() -> tuple[str, ...]:
    """The folders of installed packages that answers may import."""
    sites = {os.path.realpath(one) for one in site.getsitepackages()}
    return tuple(
        one
        for one in sys.path
        if os.path.isdir(one) and (os.path.realpath(one) in sites or Path(one).name in ("site-packages", "dist-packages"))
    )


def code_of(text: str) -> str:
    """The Python in a reply."""
    blocks = _FENCE.findall(text)
    marked = [body for language, body in blocks if language.lower() in ("python", "py", "python3")]
    return str((marked or [body for _, body in blocks] or [text])[-1])
