"""The reference is complete: every key, option, field, column, metric, route, name and folder of the code is in its page."""

import argparse
import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import cascade
import judges
from cascade import cli
from cascade.policy.schema import PolicyFile
from evals.commands import COMMANDS
from judges.registry import factory
from tests.test_docs import parser_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GOLDEN = ROOT / "tests/golden/expected"
PAGES = sorted(DOCS.rglob("*.md"))


def page(name: str) -> str:
    """A page of the documentation."""
    return (DOCS / name).read_text(encoding="utf-8")


def code_words(text: str) -> set[str]:
    """Every name that the text marks as code."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[\w.-]+", code)}


def test_every_policy_key_is_described() -> None:
    """The page of the policy file names every key of its schema."""
    words = {part for word in code_words(page("reference/policy.md")) for part in (word, word.rpartition(".")[2])}
    # The mappings inside of `confidence` are written by a replay, never by a person.
    schema = PolicyFile.model_json_schema()
    written = {name for name in schema["$defs"] if re.search("Calibrat|Mapping|Isotonic|Logistic|Platt|Fused|Vote", name)}
    keys = set(schema["properties"])
    for name, part in schema["$defs"].items():
        keys |= set() if name in written else set(part.get("properties", {}))
    assert keys - words == set()


@pytest.mark.parametrize("name", ["schema", "rules", "logprob", "self_consistency", "verifier"])
def test_every_option_of_a_judge_is_described(name: str) -> None:
    """The row of each built-in judge names what its policy may set."""
    (row,) = re.findall(rf"^\| `{name}` \| (?:veto|score).*$", page("reference/policy.md"), re.MULTILINE)
    assert set(signature(factory(name)).parameters) - {"name", "only_vetoes", "only_scores"} <= code_words(row)


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """(command, option) of every option of a parser and of the parsers in it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield name, name
                for _, option in options_of(inner):
                    yield name, option
        else:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    yield "", option


@pytest.mark.parametrize(
    "command",
    sorted({*cli._OWN, *(command.name for command in COMMANDS)}),
)
def test_every_option_is_described(command: str) -> None:
    """The page of the command line, or the one that its table links, names every command and every long option."""
    text = page("reference/cli.md")
    row = next(line for line in text.splitlines() if line.startswith(f"| `cascade {command}`"))
    text += "".join(page(f"reference/{link}") for link in re.findall(r"\]\(([\w./-]+\.md)", row))
    words = code_words(text) | set(re.findall(r"--[a-z-]+", text))
    parser, _ = parser_of(["cascade", command])
    assert f"`cascade {command}`" in text
    assert {option for _, option in options_of(parser) if option not in words} == set()


def test_every_metric_is_described() -> None:
    """The page of the metrics names every metric that the golden test freezes, with each of its labels."""
    text = page("reference/metrics.md")
    for name, metric in json.loads((GOLDEN / "metrics.json").read_text(encoding="utf-8")).items():
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        if family.endswith("_created"):
            continue
        assert f"`{family}`" in text, family
        assert set(metric["labels"]) - {"le"} <= code_words(text), family


def test_every_table_and_column_is_described() -> None:
    """The page of the journal names every table and column."""
    words = code_words(page("reference/journal.md"))
    rows = json.loads((GOLDEN / "tables.json").read_text(encoding="utf-8"))["first"]
    assert {"cascade_runs", "cascade_feedback"} <= rows.keys()
    for table, row in rows.items():
        assert {table, *(row or {})} <= words | {"id", "version"}, table


def test_every_route_is_described() -> None:
    """The page of the HTTP API names every path of the OpenAPI description."""
    text = page("reference/http-api.md")
    paths = json.loads((GOLDEN / "openapi.json").read_text(encoding="utf-8"))["paths"]
    assert paths
    assert [path for path in paths if path not in text] == []


def test_every_public_name_is_in_the_api_page() -> None:
    """Each name of cascade and each of judges that users need has its entry."""
    entries = set(re.findall(r"^::: (\S+)$", page("reference/api.md"), re.MULTILINE))
    modules = {"cascade.errors", "cascade.models.protocol"}
    covered = {name for module in modules for name in vars(import_module(module))}
    missing = {name for name in cascade.__all__ if f"cascade.{name}" not in entries and name not in covered}
    assert missing == set()
    for entry in entries - modules:
        module, _, name = entry.rpartition(".")
        assert hasattr(import_module(module), name), entry
    assert {"Judge", "JudgeInput", "judge", "register"} <= set(judges.__all__)


def test_every_page_is_in_the_navigation() -> None:
    """The site shows every page, and nothing that is not there."""
    text = re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def files(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, list | dict):
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from files(inner)

    assert sorted(files(yaml.safe_load(text)["nav"])) == [str(path.relative_to(DOCS)) for path in PAGES]


COMMON = {
    "API",
    "ASCII",
    "CPU",
    "CSV",
    "HTML",
    "HTTP",
    "HTTPS",
    "JSON",
    "SHA",
    "SIGINT",
    "SIGKILL",
    "PDF",
    "HUP",
    "SIGHUP",
    "SIGTERM",
    "SQL",
    "TLS",
    "URL",
    "USD",
}
COMMON |= {"UTF", "YAML", "MIT", "BARGAIN", "CERTIFIED", "CHANGELOG", "README", "SECURITY", "CONTRIBUTING"}


def test_every_abbreviation_is_in_the_glossary() -> None:
    """Three or more capitals are an abbreviation that the glossary explains, or one that every engineer knows."""
    explained = set(re.findall(r"^\| ([\w()-]+) \|", page("glossary.md"), re.MULTILINE))
    for path in PAGES:
        prose = re.sub(
            r"```.*?^```|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", " ", path.read_text(encoding="utf-8"), flags=re.S | re.M
        )
        acronyms = set(re.findall(r"\b[A-Z]{2,}-[A-Z]{2,}\b|(?<!-)\b[A-Z]{3,}(?=s?\b)", prose))
        unexplained = {word for word in acronyms if word not in COMMON | explained and "_" not in word}
        assert unexplained == set(), path.name


def folders() -> dict[str, int]:
    """Modules of every folder that has some beside its ``__init__.py``."""
    counts: dict[str, int] = {}
    for top in ("judges", "cascade", "evals"):
        for path in (ROOT / top).rglob("*.py"):
            if path.name != "__init__.py":
                folder = str(path.parent.relative_to(ROOT))
                counts[folder] = counts.get(folder, 0) + 1
    return counts


def test_the_architecture_lists_every_folder_with_its_modules() -> None:
    """Counts are those of the tree; UPDATE_GOLDEN=1 rewrites them. A new folder needs a line of its own."""
    path = DOCS / "explanation/architecture.md"
    text = path.read_text(encoding="utf-8")
    counts = folders()
    if os.environ.get("UPDATE_GOLDEN"):
        text = re.sub(
            r"^\| `([\w/]+)` \| \d+ \|", lambda m: f"| `{m[1]}` | {counts.get(m[1], 0)} |", text, flags=re.MULTILINE
        )
        path.write_text(text, encoding="utf-8")
    listed = {name: int(count) for name, count in re.findall(r"^\| `([\w/]+)` \| (\d+) \|", text, re.MULTILINE)}
    assert listed == counts, "UPDATE_GOLDEN=1 rewrites the counts"


def test_files_that_the_documentation_names_exist() -> None:
    """A path of this repository in a page is a file or a folder that is there."""
    for path in (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        for name in re.findall(r"`((?:judges|cascade|evals|tests|examples)/[\w/.-]+)`", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_drawings_are_well_formed() -> None:
    """Each has a title and a description, and loads nothing."""
    drawings = sorted((DOCS / "img").glob("*.svg"))
    assert drawings
    for path in drawings:
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert text.count("http") == 1, path.name
        if path.stem != "favicon":
            assert "<title" in text
            assert "<desc" in text


def test_the_readme_shows_what_the_replay_prints() -> None:
    """Every figure of the README's first table is what `make replay` prints, which a golden test freezes."""
    printed = {}
    for line in (GOLDEN / "replay.txt").read_text(encoding="utf-8").splitlines():
        match = re.match(r"(.+?) {2,}(\d\.\d{3}) +([+-]\d\.\d{3}) +\[.*?\] +\S+ +(\d+ %)", line)
        if match is not None:
            printed[match[1]] = (match[2], match[3], match[4])
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it saves")[2]
    lines = {
        name.removesuffix(" (premium)"): (quality, loss, cost)
        for name, quality, loss, cost in re.findall(r"^\| (.+?) \| (\d\.\d{3}) \| (\S+) \| (\d+ %) \|$", text, re.MULTILINE)
    }
    assert len(lines) >= 8
    assert lines == {name: figures for name, figures in printed.items() if name in lines}
    (promise,) = re.findall(r"at most ([\d.]+) below the premium", text)
    assert f"at most {promise} below" in (GOLDEN / "replay.txt").read_text(encoding="utf-8")
