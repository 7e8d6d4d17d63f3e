"""Names of things are nouns: a bare participle says what happened to a thing, and leaves open what it is."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTICIPLES = frozenset(["told", "said", "found", "made", "kept", "asked", "given"])
FILES = sorted(file for top in ("cascade", "evals", "judges", "tests", "examples") for file in (ROOT / top).rglob("*.py"))


# A bare participle where a name can be given, and what may stand beside it: prose, where a word follows, needs no parsing.
_BARE = rf"(?<![a-z0-9])_*(?:{'|'.join(sorted(PARTICIPLES))})_*(?![a-z0-9_])"
_POSSIBLE = rf"(?i){_BARE}\s*(?:[-+*/%&|^@<>=:,;#()\]}}\\]|(?:in|as|if)\b)|\bas\s+{_BARE}"


def trees_with(pattern: str) -> Iterator[tuple[Path, ast.AST]]:
    """The syntax trees of the files in which the pattern is found: parsing all of them would take seconds."""
    for file in FILES:
        source = file.read_text("utf-8")
        if re.search(pattern, source):
            yield file.relative_to(ROOT), ast.parse(source)


def names_of_things(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that ``tree`` gives to variables, parameters, attributes, functions and classes, with their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.alias(asname=str(name)):
                yield name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name, node.lineno


def refused(tree: ast.AST) -> list[str]:
    """``line: name`` of each name that is a bare participle, whatever underscores and capitals it has."""
    return [f"{line}: {name}" for name, line in names_of_things(tree) if name.strip("_").lower() in PARTICIPLES]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("made = 1", "1: made"),
        ("def f(*, asked): ...", "1: asked"),
        ("class Told: ...", "1: Told"),
        ("self._kept = 2", "1: _kept"),
        ("for found, x in y: ...", "1: found"),
        ("class A:\n    said: str", "2: said"),
        ("GIVEN += 1", "1: GIVEN"),
        ("with f() as made:\n    pass", "1: made"),
        ("(a, found\n) = 1, 2", "1: found"),
        ("match x:\n    case told if told: ...", "2: told"),
        ("match x:\n    case {'a': kept}: ...", "2: kept"),
        ("def told(x): ...", "1: told"),
        ("async def _asked(x): ...", "1: _asked"),
        ("import strategies as made", "1: made"),
    ],
)
def test_a_participle_is_found_wherever_a_name_is_given(source: str, line: str) -> None:
    """Variables, parameters, classes, attributes, loops, fields, functions and imports."""
    assert refused(ast.parse(source)) == [line]
    assert re.search(_POSSIBLE, source)


@pytest.mark.parametrize("source", ["policy = found.made(told)", "def made_of(x): ...", "import kept", "given_policy = 1"])
def test_other_names_pass(source: str) -> None:
    """A participle inside a longer name, or one that is only read, is not refused here."""
    assert refused(ast.parse(source)) == []


def test_names_are_nouns() -> None:
    """No name in the project is one of the participles: `match`, not `found`; `verdict`, not `said`."""
    bare = [f"{file}:{name}" for file, tree in trees_with(_POSSIBLE) for name in refused(tree)]
    assert not bare


SLOTS = {"EnvironmentText": "a str", "Translated": "a dict", "Proxy": "whose attributes are the program's"}


def test_slots_are_those_of_dataclasses() -> None:
    """`@dataclass(slots=True)` names each attribute once. Classes that derive from a built-in type are excepted."""
    by_hand = [
        f"{file}:{node.lineno}: {node.name}"
        for file, tree in trees_with("__slots__")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name not in SLOTS
        for part in node.body
        if isinstance(part, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__slots__" for t in part.targets)
    ]
    assert not by_hand
