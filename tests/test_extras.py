"""A package of an extra that is missing: one line that says what to install, status 2, and never a traceback."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cascade.util.extras import EXTRAS, MissingExtraError, needed_by
from tests.distribution import install

ROOT = Path(__file__).parents[1]
LOGS = ROOT / "tests" / "evals" / "importers" / "fixtures" / "inspect_ai"
BLOCKER = "import os, sys\nfor name in os.environ['BLOCKED'].split(','): sys.modules[name] = None\n"
POLICIES = """{extra}
models:
  m: {{provider: scripted, answers: ["51"]}}
policies:
  default: {{tiers: [{{model: m, accept_at: 0}}]}}
"""
RECORDING = '{"id": "a", "task": "t", "prompt": "17 * 3?", "reference": "51", "answers": {"m": {"text": "51"}}}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a policy file for each extra that one can name, and a recording."""
    for name, extra in {
        "plain": "",
        "traces": "telemetry: {traces: true}",
        "metrics": "telemetry: {metrics: true}",
        "postgres": 'journal: {url: "postgresql://localhost/nothing"}',
        "journal": 'journal: {url: "sqlite:///journal.db"}',
    }.items():
        (tmp_path / f"{name}.yaml").write_text(POLICIES.format(extra=extra))
    (tmp_path / "r.jsonl").write_text(RECORDING)
    (tmp_path / "r.parquet").write_bytes(b"PAR1")
    return tmp_path


def without(packages: str, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command, as ``python -m`` runs it, where these packages cannot be imported."""
    site = folder / "site"
    if not site.exists():
        install(site)
        (site / "sitecustomize.py").write_text(BLOCKER)  # Python runs it before anything else
    env = {**os.environ, "PYTHONPATH": str(site), "BLOCKED": packages}
    words = [sys.executable, "-m", *command.split()]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("numpy", "evals.replay", "evals"),
        ("numpy", "cascade replay", "evals"),
        ("numpy", "cascade audit --help", "evals"),
        ("pyarrow", "evals.recording show r.parquet", "parquet"),
        ("pyarrow", "evals.recording merge r.jsonl --out new.parquet", "parquet"),
        ("pyarrow", "evals.record r.parquet --policy-file plain.yaml --out new.jsonl", "parquet"),
        ("pyarrow", "cascade journal export new.parquet --format parquet --journal sqlite:///journal.db", "parquet"),
        ("psycopg", "cascade run --policy-file postgres.yaml q", "postgres"),
        ("psycopg", "cascade journal tail --journal postgresql://localhost/nothing", "postgres"),
        ("opentelemetry", "cascade run --policy-file traces.yaml q", "otel"),
        ("prometheus_client", "cascade run --policy-file metrics.yaml q", "metrics"),
        ("starlette", "cascade serve --policy-file plain.yaml --port 0", "gateway"),
        ("uvicorn", "cascade serve --policy-file plain.yaml --port 0", "gateway"),
        ("httptools", "cascade serve --policy-file plain.yaml --port 0", "gateway"),
        ("prometheus_client", "cascade serve --policy-file plain.yaml --port 0", "gateway"),
        ("backports", f"evals.recording import inspect_ai {LOGS}/sums_small.eval --out new.jsonl", "imports"),
        ("math_verify", "evals.grade r.jsonl --grader maths", "maths"),
        ("ray", "evals.grade r.jsonl --grader text --out new.jsonl --engine ray", "ray"),
        ("ray", "cascade replay r.jsonl --engine ray://127.0.0.1:1", "ray"),
        ("xllamacpp", "evals.demo", "demo"),
        ("xllamacpp", "cascade demo", "demo"),
    ],
)
def test_a_command_without_its_package_is_one_line(folder: Path, package: str, command: str, extra: str) -> None:
    """With the extra that brings the package; nothing is written."""
    if "sqlite" in command:
        result = without("nothing_at_all", "cascade run --policy-file journal.yaml q", folder)
        assert result.stdout == "51\n", result.stderr
    done = without(package, command, folder)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert re.search(rf" needs [\w.-]+: pip install 'cascade-gate\[{extra}\]'", line)
    assert done.stdout == ""
    assert not list(folder.glob("new.*"))


@pytest.mark.parametrize(
    ("module", "package", "extra"), [("evals.replay", "numpy", "evals"), ("cascade.gateway.app", "starlette", "gateway")]
)
def test_a_program_without_the_package_gets_the_same_sentence(module: str, package: str, extra: str) -> None:
    """As the last line, in a ModuleNotFoundError that says nothing else."""
    code = f"import sys; sys.modules[{package!r}] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(rf"\S+MissingExtraError: .+ needs {package}: pip install 'cascade-gate\[{extra}\]'", last)


def test_what_only_makes_things_faster_is_not_missed(folder: Path) -> None:
    """Neither aiohttp nor uvloop or numpy is needed to run a policy."""
    done = without("aiohttp,multidict,yarl,uvloop,httptools,numpy,pyarrow", "cascade run --policy-file plain.yaml q", folder)
    assert done.stdout == "51\n", done.stderr  # the status is 1, as no judge scored the answer
    assert " needs " not in done.stderr


def test_every_extra_is_known() -> None:
    """An extra of pyproject.toml is named by some package, or only speeds things up, or is for those who work on it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    others = {"fast", "dev", "typing", "clients", "compare", "docs", "examples"}
    assert set(project["optional-dependencies"]) - others == set(EXTRAS.values())


def test_other_missing_modules_stay_as_they_are() -> None:
    """A module of our own, or one that no extra brings, is a mistake, not an extra."""
    with pytest.raises(ModuleNotFoundError, match="No module named 'nonesuch'") as raised, needed_by("it"):
        import nonesuch  # type: ignore[import-not-found]  # noqa: F401
    assert not isinstance(raised.value, MissingExtraError)
