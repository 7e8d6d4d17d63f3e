"""What users rely on stays as it is, whatever the modules behind it are called: commands, files, interfaces, names."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from shutil import copy
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.distribution import install
from tests.golden.frozen import EVALS, LIBRARY, as_text, check, help_text, labels, masked, shape, table
from tests.workers import warm_python

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROMPT = "What is 17 * 3? Reply with the number only."
# As users of each floor type them, without the module's name.
LIBRARY_COMMANDS = [
    "",
    "run",
    "gate",
    "check",
    "schema",
    "serve",
    "keys",
    "keys create",
    "keys list",
    "keys revoke",
    "journal",
    "journal tail",
    "journal show",
    "journal export",
    "journal verify",
]
EVALS_COMMANDS = [
    "replay",
    "record",
    "grade",
    "recording",
    "recording show",
    "recording merge",
    "recording split",
    "recording sample",
    "recording import",
    "demo",
    "demo.traffic",
]
_OPENER = build_opener(ProxyHandler({}))


def environment(*path: Path) -> dict[str, str]:
    """The surroundings without what would change a command's words or ways; ``path`` comes first on Python's."""
    foreign = ("CASCADE_", "OTEL_", "PROMETHEUS_")
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith(("_api_key", "_proxy"))
    }
    return {**variables, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}


def output(*command: str, cwd: Path, path: tuple[Path, ...] = ()) -> str:
    """What Python prints when it is run with these arguments, which must succeed."""
    done = warm_python.run([sys.executable, *command], cwd=cwd, env=environment(*path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def http(url: str, body: Any = None) -> str:
    """The text of one answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with _OPENER.open(Request(url, data, {"content-type": "application/json"}), timeout=20) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        with error:
            return error.read().decode()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own with the policy file and the recording that its models answer from."""
    folder = tmp_path_factory.mktemp("policies")
    for name in ("policies.yaml", "recording.jsonl"):
        copy(HERE / name, folder)
    return folder


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Any]:
    """The table, the figures and the calibration of one replay of the shipped recording."""
    folder = tmp_path_factory.mktemp("replay")
    options = ["--split", "recorded", "--max-loss", "0.1", "--by-prompt"]  # those of `make replay`
    command = ["-m", f"{EVALS}.replay", *options, "--out", "c.json", "--json", "r.json"]
    table = output(*command, cwd=folder)
    return table, json.loads((folder / "r.json").read_text()), json.loads((folder / "c.json").read_text())


@pytest.fixture(scope="module")
def spans(policies: Path) -> Any:
    """The spans of some runs, which the journal next to the policy file has kept, too."""
    return json.loads(output(str(HERE / "runs.py"), LIBRARY, "policies.yaml", cwd=policies))


@pytest.fixture(scope="module")
def gateway(policies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway that serves the policies, without keys and with a journal of its own."""
    folder = tmp_path_factory.mktemp("gateway")
    for name in ("policies.yaml", "recording.jsonl"):
        copy(policies / name, folder)
    command = [sys.executable, "-m", LIBRARY, "serve", "--port", "0", "--policy-file", "policies.yaml", "--keys", "keys.db"]
    pipe = subprocess.PIPE  # standard input ends with this process: no stopped test leaves a gateway running
    with warm_python.Popen(
        [*command, "--stop-on-eof"], cwd=folder, env=environment(), stdin=pipe, stderr=pipe, text=True
    ) as running:
        assert running.stderr is not None
        output = ""
        try:
            for line in running.stderr:
                output += line
                if "http://" in line:
                    yield line.split()[1].removesuffix("/v1")
                    running.send_signal(signal.SIGTERM)
                    running.wait(20)
                    return
            raise AssertionError(output)
        finally:
            running.kill()


def test_the_replay_prints_the_same_table(replayed: tuple[str, Any, Any]) -> None:
    """The shipped recording gives the same figures, certificate and notes."""
    check("replay.txt", table(replayed[0]))


def test_the_replay_finds_the_same_figures(replayed: tuple[str, Any, Any]) -> None:
    """``--json`` writes the same fields with the same values."""
    check("replay.json", as_text(replayed[1]))


def test_the_calibration_file_has_the_same_keys(replayed: tuple[str, Any, Any]) -> None:
    """``--out`` writes the keys that a policy's calibration is read by."""
    lines = list(dict.fromkeys(shape(replayed[2])))
    assert "chosen[].confidence[].features[].coefficient: number" in lines
    check("calibration.txt", "\n".join(lines) + "\n")


def test_every_command_says_the_same_of_itself(tmp_path: Path) -> None:
    """Names, options, defaults and help texts of all commands are frozen."""
    commands = {f"{LIBRARY} {words}".strip(): f"{{LIBRARY}} {words}".strip() for words in LIBRARY_COMMANDS}
    commands |= {f"{EVALS}.{words}": f"{{EVALS}}.{words}" for words in EVALS_COMMANDS}
    install(tmp_path / "site")
    texts = json.loads(output(str(HERE / "helps.py"), *commands, cwd=tmp_path, path=(tmp_path / "site",)))
    check("help.txt", "\n".join(f"=== {title}\n{help_text(texts[command])}\n" for command, title in commands.items()))


def test_the_policy_file_has_the_same_schema(tmp_path: Path) -> None:
    """Every policy file that is valid today stays valid, and editors explain it in the same words."""
    check("policies.schema.json", as_text(json.loads(output("-m", LIBRARY, "schema", cwd=tmp_path))))


def test_the_gateway_documents_the_same_interface(gateway: str) -> None:
    """Paths, fields and answers of the OpenAPI document are those that clients were made from."""
    document = json.loads(http(f"{gateway}/openapi.json"))
    document["info"]["version"] = "<version>"
    check("openapi.json", as_text(document))


def test_the_metrics_have_the_same_names(gateway: str) -> None:
    """Prometheus finds the metrics, labels and buckets that dashboards and alerts ask for."""
    http(f"{gateway}/v1/route", {"prompt": PROMPT})
    http(f"{gateway}/v1/route", {"prompt": PROMPT, "policy": "unpriced"})
    http(f"{gateway}/v1/route", {"prompt": PROMPT, "policy": "broken"})
    http(f"{gateway}/v1/gate", {"prompt": PROMPT, "answer": "51"})
    metrics = labels(http(f"{gateway}/metrics"))
    assert all(
        metric["labels"]
        for name, metric in metrics.items()
        if not name.startswith(("cascade_http_requests_", "cascade_state_"))
    )
    check("metrics.json", as_text(metrics))


def test_the_spans_have_the_same_names(spans: Any) -> None:
    """OpenTelemetry gets the same spans, attributes and events, of runs that escalate, fail and are given an answer."""
    check("spans.json", as_text(spans))


def test_the_journal_exports_the_same_records(spans: Any, policies: Path) -> None:
    """A record is exported with the same keys and values: with and without text, of a run, a gate and a failure."""
    lines = output("-m", LIBRARY, "journal", "export", "-", "--policy-file", "policies.yaml", cwd=policies).splitlines()
    check("journal.json", as_text([json.loads(line) for line in lines]))


def test_the_journal_has_the_same_tables(spans: Any, policies: Path) -> None:
    """A journal of today is read tomorrow: tables, columns, indices, and how the first row of each is stored."""
    with closing(sqlite3.connect(policies / "journal.db")) as journal:
        journal.row_factory = sqlite3.Row
        objects = journal.execute(
            "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall()
        tables = [name for name, sql in objects if sql.startswith("CREATE TABLE cascade_")]
        rows = {name: journal.execute(f"SELECT * FROM {name} ORDER BY rowid LIMIT 1").fetchone() for name in tables}
    stored = {name: None if row is None else {c: _plain(row[c]) for c in row.keys()} for name, row in rows.items()}  # noqa: SIM118
    check("tables.json", as_text({"made": dict(objects), "first": stored}))


def test_the_public_names_are_the_same() -> None:
    """What programs import from the library is there under the same names, each of them a name that loads."""
    public = import_module(LIBRARY)
    assert all(getattr(public, name) is not None for name in public.__all__)
    check("public.txt", "\n".join(public.__all__) + "\n")


def test_the_mask_hides_nothing_but_what_varies() -> None:
    """A volatile field is masked only where it has a value, and a figure that changes in its sixth digit shows."""
    assert masked({"run_id": "x", "cost_usd": 1.0000001, "n": 3, "ended": None, "tier": {"at": 1.5}}) == {
        "run_id": "<run_id>",
        "cost_usd": 1.0,
        "n": 3,
        "ended": None,
        "tier": {"at": "<at>"},
    }
    assert as_text([0.123456]) != as_text([0.123457])


def test_help_is_compared_without_its_layout() -> None:
    """Both ways in which versions of argparse write an option, at any width, are one; another word is not."""
    old = "options:\n  -s VALUE, --long VALUE\n        what OpenAI-\n        compatible servers take"
    new = "options:\n  -s, --long VALUE  what OpenAI-compatible\n                    servers take"
    assert help_text(old) == help_text(new) == "options:\n-s, --long VALUE what OpenAI-compatible servers take"
    assert help_text(new) != help_text(new.replace("take", "took"))


def test_a_change_is_shown_as_a_diff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure names the file and shows the lines that differ."""
    monkeypatch.delenv("UPDATE_GOLDEN", raising=False)
    with pytest.raises(pytest.fail.Exception, match=r"public\.txt has changed(.|\n)*-Cascade\n(.|\n)*\+Other"):
        check("public.txt", (HERE / "expected" / "public.txt").read_text().replace("Cascade\n", "Other\n"))


def _plain(value: Any) -> Any:
    """A column's value, JSON objects in it opened so that their volatile fields can be masked."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value
