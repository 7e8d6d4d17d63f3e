"""The tutorial works when it is followed: files are written, commands and code run in order, outputs are as shown.

A block with a ``title`` is a file. ``sh`` and ``python`` blocks run; ``bash`` blocks need a key or a package index and are
only parsed, by test_docs.py. A ``text`` block is the output of the block before it; ``...`` stands for any text.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workers import warm_python

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_STEPS = [(m[1], m[2], m[3]) for m in _BLOCK.finditer((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))]
_COMMAND = """#!/bin/sh
case "$1" in
    record|grade|replay|recording|demo) module=evals.$1; shift;;
    *) module=cascade;;
esac
exec {python} -m $module "$@"
"""


def matches(expected: str, output: str) -> bool:
    """Whether the output is the expected text, in which ``...`` stands for any text; line breaks count as spaces."""
    pattern = ".*".join(re.escape(part) for part in " ".join(expected.split()).split("..."))
    return re.fullmatch(pattern, " ".join(output.split())) is not None


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``cascade`` and ``python`` are those of this checkout."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("cascade", _COMMAND), ("python", '#!/bin/sh\nexec {python} "$@"\n')):
        (commands / name).write_text(text.format(python=sys.executable), encoding="utf-8")
        (commands / name).chmod(0o755)
    unset = ("CASCADE_POLICIES", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    return {**variables, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def process_of(language: str, text: str) -> list[str]:
    """The process that runs a block: a shell, or Python itself where a shell would start it once and do nothing else."""
    if language == "python":
        return [sys.executable, "-c", text]
    command = text.replace("\\\n", " ").strip()
    if re.match("cascade ", command) and not re.search(r"[\n|&;<>()$`*?]", re.sub(r'"[^"$`\\]*"', "", command)):
        _, first, *rest = shlex.split(command)
        own = first in ("record", "grade", "replay", "recording", "demo")
        return [sys.executable, "-m", *([f"evals.{first}"] if own else ["cascade", first]), *rest]
    return ["bash", "-euo", "pipefail", "-c", text]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_the_tutorial_works_when_it_is_followed(tmp_path: Path, environment: dict[str, str]) -> None:
    """Every block, in order, in one empty folder."""
    folder, port = tmp_path / "project", str(free_port())
    folder.mkdir()
    output, groups, compared = "", [], 0
    try:
        for language, title, text in _STEPS:
            if title:
                (folder / title).write_text(text, encoding="utf-8")
            elif language in ("sh", "python"):
                command = process_of(language, text.replace("8000", port) if language == "sh" else text)
                with (tmp_path / "out").open("w+", encoding="utf-8") as out:
                    step = warm_python.Popen(
                        command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                    )
                    groups.append(step.pid)
                    code = step.wait(timeout=120)
                    out.seek(0)
                    output = out.read()
                assert code == 0, f"{text}\n{output}"
            elif language == "text":
                assert matches(text, output), f"expected:\n{text}\nfound:\n{output}"
                compared += 1
    finally:
        for group in groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue
    assert compared >= 8


@pytest.mark.parametrize(
    ("expected", "output", "same"), [("a...c", "a b\nc", True), ("a", "b", False), ("a...", "b a", False)]
)
def test_outputs_are_compared(expected: str, output: str, same: bool) -> None:
    """What differs outside of ``...`` is noticed."""
    assert matches(expected, output) is same
