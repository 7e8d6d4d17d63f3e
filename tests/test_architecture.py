"""The three floors hold, importing the package stays light, and long calls name their arguments."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "openai",
    "anthropic",
    "numpy",
    "jsonschema",
    "genai_prices",
    "aiohttp",
    "httpx2",
    "regex",
    "pydantic",
    "yaml",
    "starlette",
    "uvicorn",
)


LEAVES = (ast.Name, ast.Constant, ast.Load, ast.Store, int, str, type(None))


@cache
def syntax_tree(path: Path) -> ast.AST:
    """What a module is parsed to."""
    return ast.parse(path.read_text())


def calls_and_functions(tree: ast.AST) -> Iterator[ast.Call | ast.FunctionDef]:
    """Those nodes of a tree, in a third of the time of ``ast.walk``, which looks into names, constants and contexts, too."""
    todo: list[object] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo += node
        elif isinstance(node, ast.AST):
            if isinstance(node, ast.Call | ast.FunctionDef):
                yield node
            todo += [inner for inner in vars(node).values() if type(inner) not in LEAVES]


def loaded_by(code: str) -> list[str]:
    """The heavy modules that a fresh interpreter has loaded after ``code``."""
    show = f"{code}\nimport sys; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.split()


def test_import_contracts() -> None:
    """The contracts in pyproject.toml are kept: imports only point down, and none form a circle."""
    # Its own process: the linter changes the path and the working directory's view of the packages.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("package", ["cascade", "judges", "cascade.costs.prices", "cascade.errors", "cascade.engine.decide"])
def test_importing_loads_nothing_heavy(package: str) -> None:
    """Importing pays for no SDK, no validator and no price list."""
    assert loaded_by(f"import {package}") == []


def test_running_a_recorded_policy_loads_no_sdk() -> None:
    """A run pays only for what its own models and judges need."""
    code = "import cascade; assert cascade.run('What is the capital of France? Reply with the answer only.').text"
    assert not {"openai", "anthropic", "aiohttp", "httpx2", "numpy", "genai_prices"} & set(loaded_by(code))


def test_every_public_name_is_there() -> None:
    """``__all__`` and the names that load on first use are the same."""
    import cascade

    assert sorted(cascade.__all__) == cascade.__all__ == sorted(cascade._WHERE)
    for name in cascade.__all__:
        assert getattr(cascade, name) is not None


def test_no_call_has_seven_positional_arguments() -> None:
    """Where so many values pass, each goes by its name: two of one type are swapped too easily.

    The words of a command, and whatever else a function of the tests takes as ``*args``, are one list.
    """
    calls, lists = [], set()
    for folder in ("cascade", "judges", "evals", "examples", "tests"):
        # Another test reads the lower floors' trees again; to keep the others costs the garbage collector seconds.
        tree_of = syntax_tree if folder in ("cascade", "judges") else syntax_tree.__wrapped__
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in calls_and_functions(tree_of(path)):
                if isinstance(node, ast.Call):
                    if len(node.args) >= 7:
                        calls.append((path.relative_to(ROOT), node))
                elif folder == "tests" and isinstance(node, ast.FunctionDef) and node.args.vararg is not None:
                    lists.add(node.name)
    too_many = [
        f"{path}:{call.lineno} {ast.unparse(call.func)}"
        for path, call in calls
        if not (path.parts[0] == "tests" and ast.unparse(call.func).rpartition(".")[2] in lists)
    ]
    assert not too_many, too_many


# The extra is called "evals", and the command line finds the commands of evals by their entry point.
NAMES_EVALS = {"cascade/util/commands.py", "cascade/util/extras.py"}


def test_no_lower_floor_names_an_upper_one_as_a_path() -> None:
    """Import contracts do not see a path: what a lower floor reads, such as the packaged recording, is in its own folder."""
    upper = {"cascade": re.compile(r"evals(/|$)"), "judges": re.compile(r"(evals|cascade)(/|$)")}
    paths = [
        f"{name}:{node.lineno}: {node.value[:60]!r}"
        for floor, path_pattern in upper.items()
        for path in sorted((ROOT / floor).rglob("*.py"))
        if (name := path.relative_to(ROOT).as_posix()) not in NAMES_EVALS
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path_pattern.match(node.value.lstrip("./"))
    ]
    assert not paths, paths


def test_no_folder_has_too_many_modules() -> None:
    """A folder of more than 22 holds two ideas: it gets a subpackage."""
    counts = {
        folder.relative_to(ROOT).as_posix(): len([f for f in folder.glob("*.py") if f.name != "__init__.py"])
        for top in ("cascade", "judges", "evals", "tests")
        for folder in (ROOT / top, *(ROOT / top).rglob("*"))
        if folder.is_dir()
    }
    assert max(counts.values()) <= 22, {name: n for name, n in counts.items() if n > 22}
