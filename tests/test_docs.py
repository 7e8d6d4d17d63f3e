"""The documentation cannot go stale: its files parse, its code runs, its commands exist, its links lead somewhere.

``python`` blocks run here, except for those of the tutorial, which test_tutorial.py follows from start to end; ``py`` blocks
need other people's clients and run in tests/examples.
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

import cascade
from cascade import ScriptedModel
from cascade.cli import command_parser
from cascade.engine import runtime  # before `keyless` replaces what it imports
from cascade.models import factory
from cascade.policy import load

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)(?: title=\".*?\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """(where, text) of every fenced block in one of the languages ("" is none)."""
    for page in PAGES:
        for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[1] in languages:
                line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
                yield f"{page.relative_to(ROOT)}:{line}", match[2]


POLICIES = [
    b for b in blocks("yaml") if "models:" in b[1] and "policies:" in b[1] and not b[0].startswith("docs/tutorial.md")
]
LADDERS = [
    b
    for b in blocks("yaml")
    if b[0].startswith("docs/how-to/write-a-policy.md") and b[1].startswith("policies:\n  default:")
]
MODELS = [b for b in blocks("yaml") if b[1].startswith("models:\n  cheap:") and b not in POLICIES]
CODE = [b for b in blocks("python") if not b[0].startswith("docs/tutorial.md")]  # test_tutorial.py follows it
COMMANDS = [
    (where, line)
    for where, text in blocks("", "sh", "bash", "console")
    for line in text.replace("\\\n", " ").splitlines()
    if re.match(r"(cascade [a-z]|python -m (cascade|evals\.))", line)
]
# Commands of the top floor, each with a parser of its own: `cascade replay` is `python -m evals.replay`.
_PARSERS = ("arguments", "command", "demo")
EVALS = {name: f"evals.{name}" for name in ("record", "grade", "replay", "recording", "demo")}
EVALS["audit"] = "evals.audit.audit"
EVALS["grade-shadows"] = "evals.audit.grade_shadows"


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model of a policy file is scripted, so that examples run without a key and without a network."""

    def build(name: str, spec: object) -> ScriptedModel:
        return ScriptedModel(name, ["51"])

    monkeypatch.setattr(factory, "build", build)
    monkeypatch.setattr(runtime, "build", build)


@pytest.mark.parametrize(("where", "text"), POLICIES, ids=[w for w, _ in POLICIES])
def test_policies_in_the_documentation_are_valid(where: str, text: str, tmp_path: Path) -> None:
    """A policy that a reader copies loads."""
    assert load.parse(text, str(tmp_path / "policies.yaml")).policies


@pytest.mark.parametrize(("where", "text"), MODELS, ids=[w for w, _ in MODELS])
def test_one_policy_serves_every_provider(where: str, text: str, tmp_path: Path) -> None:
    """The models shown for a provider fit the policy shown for all of them, and have prices."""
    ((_, ladder),) = LADDERS
    file = load.parse(ladder + "    budget_usd: 1.0\n" + text, str(tmp_path / "policies.yaml"))
    assert file.models.keys() == {"cheap", "strong"}


@pytest.mark.parametrize(("where", "text"), CODE, ids=[w for w, _ in CODE])
def test_code_in_the_documentation_runs(
    where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyless: None
) -> None:
    """Code that a reader copies runs next to the README's policy file."""
    readme = next(text for at, text in POLICIES if at.startswith("README.md"))
    (tmp_path / "policies.yaml").write_text(readme, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASCADE_POLICIES", str(tmp_path / "policies.yaml"))
    exec(compile(text, where, "exec"), {"__name__": "documentation", "cascade": cascade})


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser of a command and the arguments that are left for it."""
    if words[0] == "python":
        words = words[2:]
    if words[0] == "cascade" and words[1] in EVALS:
        words = [EVALS[words[1]], *words[2:]]
    package, *rest = words
    if package == "cascade":
        return command_parser(rest[0]), rest[1:]
    folder = ROOT.joinpath(*package.split("."))
    inner = next((name for name in _PARSERS if (folder / f"{name}.py").is_file()), None)
    module = import_module(package if inner is None else f"{package}.{inner}")
    make = getattr(module, "parser", None) or module._parser
    parser: argparse.ArgumentParser = make("cascade") if signature(make).parameters else make()
    return parser, rest


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[f"{w} {line[:60]}" for w, line in COMMANDS])
def test_commands_in_the_documentation_exist(where: str, line: str) -> None:
    """Every option that the documentation uses is one that the command takes."""
    words = shlex.split(line, comments=True)
    for end in ("|", ">", "&", "&&", ";"):
        words = words[: words.index(end)] if end in words else words
    parser, arguments = parser_of(words)
    parser.parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there, and every anchor a heading of it."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name}: {target}"


def test_the_table_of_clients_is_the_matrix_of_the_tests() -> None:
    """Every client library that ``make test-clients`` runs, in every way."""
    from tests.clients.matrix import WAYS, names

    page = (ROOT / "docs/how-to/client-libraries.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- matrix -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert table is not None
    rows = [line.strip("|").split(" | ") for line in table[1].strip().splitlines()[2:]]
    assert [(row[0].strip(), [cell.strip(" |") for cell in row[1:]]) for row in rows] == [
        (name, ["yes"] * len(WAYS)) for name in names()
    ]
