"""What type checkers say of calls of the public functions: mypy and pyright accept the good ones and refuse the bad ones."""

import json
import re
import subprocess
import sys
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

import cascade
from cascade import default_client, options

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOOD, BAD = HERE / "cases" / "good.py", HERE / "cases" / "bad.py"


def mypy() -> dict[str, set[int]]:
    """The lines of each file in which mypy finds an error."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", str(GOOD), str(BAD)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors: dict[str, set[int]] = {}
    for name, line in re.findall(r"^(.+?):(\d+): error:", done.stdout, re.MULTILINE):
        errors.setdefault(Path(name).name, set()).add(int(line))
    return errors


def pyright() -> dict[str, set[int]]:
    """The lines of each file in which pyright finds an error."""
    pytest.importorskip("basedpyright", reason="needs the extra 'typing'")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--level", "error", "--pythonpath", sys.executable]
    done = subprocess.run([*command, str(GOOD), str(BAD)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors: dict[str, set[int]] = {}
    for item in json.loads(done.stdout)["generalDiagnostics"]:
        errors.setdefault(Path(item["file"]).name, set()).add(item["range"]["start"]["line"] + 1)
    return errors


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_accept_the_good_calls_and_refuse_the_bad_ones(checker: Any) -> None:
    """Line by line: every line marked as refused has an error, and no other line has."""
    refused = {i for i, line in enumerate(BAD.read_text().splitlines(), 1) if re.search(r"\S.*# refused", line) and i > 2}
    assert len(refused) > 25
    assert checker() == {"bad.py": refused}


FORMS = {
    "run": options.RunOptions,
    "arun": options.RunOptions,
    "stream": options.StreamOptions,
    "astream": options.StreamOptions,
    "gate": options.GateOptions,
    "agate": options.GateOptions,
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("where", [default_client, cascade.Cascade])
def test_each_signature_shows_the_keywords_of_its_options(where: Any, name: str) -> None:
    """The signature that ``help()`` shows and the TypedDict that type checkers read name the same keywords and types."""
    parameters = signature(getattr(where, name)).parameters
    assert not [p for p in parameters.values() if p.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)]
    keywords = {n: p.annotation for n, p in parameters.items() if p.kind is Parameter.KEYWORD_ONLY}
    assert {n: t for n, t in keywords.items() if n not in ("policy_file", "schema")} == FORMS[name].__annotations__
