"""The files around the code: CI calls targets that exist, hooks call programs that are installed, versions agree."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def parsed(path: str) -> Any:
    """A YAML file of this repository."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def targets_of(command: str) -> list[str]:
    """The make targets that a command calls, also both ends of a ``${{ a && 'x' || 'y' }}``."""
    command = re.sub(r"\$\{\{[^}]*\}\}", lambda match: " ".join(re.findall(r"'([a-z-]+)'", match[0])), command)
    calls = re.findall(r"(?:^|\s)make((?: [a-z-]+)+)", command, re.MULTILINE)
    return [target for call in calls for target in call.split()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_parse_and_call_targets_that_exist(path: Path) -> None:
    """Every job checks out the code, is bounded in time, and runs make targets of the Makefile."""
    jobs = parsed(str(path.relative_to(ROOT)))["jobs"]
    called = set()
    for name, job in jobs.items():
        assert job["timeout-minutes"], name
        assert job["steps"][0]["uses"].startswith("actions/checkout@"), name
        assert all(("run" in step) != ("uses" in step) for step in job["steps"]), name
        called |= {target for step in job["steps"] for target in targets_of(step.get("run", ""))}
    assert called
    assert called <= TARGETS, called - TARGETS


def test_ci_lints_tests_and_builds_the_documentation() -> None:
    """The matrix covers every Python version that the package says it supports."""
    jobs = parsed(".github/workflows/ci.yml")["jobs"]
    called = {t for job in jobs.values() for step in job["steps"] for t in targets_of(step.get("run", ""))}
    assert {"lint", "test", "coverage", "docs", "test-clients", "dist"} <= called
    prefix = "Programming Language :: Python :: "
    classifiers = PROJECT["project"]["classifiers"]
    supported = [c.removeprefix(prefix) for c in classifiers if c.startswith(prefix + "3.")]
    assert jobs["test"]["strategy"]["matrix"]["python"] == supported
    assert PROJECT["project"]["requires-python"] == f">={supported[0]}"


def test_targets_are_found_in_commands() -> None:
    """A misspelt target would be noticed."""
    assert targets_of("make ${{ matrix.python == '3.13' && 'coverage' || 'test' }}") == ["coverage", "test"]
    assert targets_of("cd x && make lint dist") == ["lint", "dist"]


def test_targets_in_the_documentation_exist() -> None:
    """``make x`` in the README and in CONTRIBUTING names a target."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/release.md"):
        text = page.read_text(encoding="utf-8")
        calls = re.findall(r"`make ([a-z -]+)`|^make ([a-z-]+)", text, re.MULTILINE)
        assert calls
        assert {target for call in calls for target in " ".join(call).split()} <= TARGETS, page.name


def test_every_phony_target_exists() -> None:
    """The Makefile declares what it has, and describes it for ``make help``."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == TARGETS
    assert all(re.search(rf"^{target}:.*  ## ", text, re.MULTILINE) for target in TARGETS)


def test_hooks_and_updates_are_well_formed() -> None:
    """Hooks are local and run programs of the ``dev`` extra; updates cover pip, npm and actions."""
    dev = " ".join(PROJECT["project"]["optional-dependencies"]["dev"])
    (repo,) = parsed(".pre-commit-config.yaml")["repos"]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repo["hooks"]}
    assert programs == {"ruff", "lint-imports", "mypy"}
    assert all(name in dev for name in ("ruff", "import-linter", "mypy"))
    updates = parsed(".github/dependabot.yml")["updates"]
    assert [u["package-ecosystem"] for u in updates] == ["pip", "npm", "github-actions"]
    assert all((ROOT / u["directory"].strip("/")).is_dir() for u in updates)


def test_versions_agree() -> None:
    """The version of the distribution is that of the package."""
    import cascade

    assert PROJECT["project"]["version"] == cascade.__version__


def test_only_known_files_lie_at_the_top() -> None:
    """A database or a policy that somebody's trial left there would be shipped with the rest."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = {path for path in tracked.stdout.split() if "/" not in path and not path.startswith(".")}
    words = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
    assert files <= words | {"Dockerfile", "Makefile", "mkdocs.yml", "policies.yaml", "pyproject.toml"}
