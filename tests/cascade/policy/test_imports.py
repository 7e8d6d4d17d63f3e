"""``imports`` in a policy file: judges of one's own, found beside that file."""

import sys
from pathlib import Path

import pytest

import cascade
from cascade import PolicyError
from cascade.policy.load import load, parse

FILE = """imports: [{module}]
models:
  m: {{provider: scripted, answers: [short, short, short]}}
policies:
  default: {{tiers: [{{model: m, accept_at: 0.6, judges: [{judge}]}}]}}
"""
JUDGE = """
from judges import judge

@judge("{judge}")
def score(prompt, answer):
    return {score}
"""


def policy_file(folder: Path, module: str, judge: str, score: float = 0.9, *, code: str = JUDGE) -> Path:
    """A policy file whose judge is in the module beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / "policies.yaml"
    path.write_text(FILE.format(module=module, judge=judge))
    (folder / f"{module}.py").write_text(code.format(judge=judge, score=score))
    return path


def test_a_judge_beside_the_policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the working directory is, and without a change of Python's path."""
    path, before = policy_file(tmp_path / "a", "imports_test_beside", "beside"), list(sys.path)
    monkeypatch.chdir(tmp_path)
    result = cascade.run("q", policy_file=path)
    assert result.attempts[0].verdicts[0].judge == "beside"
    assert result.attempts[0].verdicts[0].score == 0.9
    assert sys.path == before


@pytest.mark.parametrize("module", ["judges", "evals", "cascade", "json", "statistics"])
def test_a_module_may_be_called_as_another_one(tmp_path: Path, module: str) -> None:
    """It shadows neither a module of ours nor one of the standard library."""
    before = sys.modules.get(module)
    path = policy_file(tmp_path, module, f"called_{module}")
    assert cascade.run("q", policy_file=path).attempts[0].verdicts[0].score == 0.9
    assert sys.modules.get(module) is before


def test_two_folders_may_have_modules_of_one_name(tmp_path: Path) -> None:
    """Each file gets its own."""
    for folder, score in (("one", 0.7), ("two", 0.8)):
        path = policy_file(tmp_path / folder, "imports_test_twice", f"twice_{folder}", score)
        assert cascade.run("q", policy_file=path).attempts[0].verdicts[0].score == score


def test_a_module_is_imported_once(tmp_path: Path) -> None:
    """However often the file is loaded."""
    code = "import builtins\nbuiltins.imports_test_count = getattr(builtins, 'imports_test_count', 0) + 1\n" + JUDGE
    path = policy_file(tmp_path, "imports_test_once", "once", code=code)
    for _ in range(3):
        load(path)
    import builtins

    assert vars(builtins).pop("imports_test_count") == 1


def test_a_package_with_a_module_inside(tmp_path: Path) -> None:
    """By a dotted name, with imports relative to the package."""
    package = tmp_path / "imports_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("SCORE = 0.75\n")
    (package / "mine.py").write_text("from . import SCORE\n" + JUDGE.format(judge="inside", score="SCORE"))
    path = tmp_path / "policies.yaml"
    path.write_text(FILE.format(module="imports_test_package.mine", judge="inside"))
    assert cascade.run("q", policy_file=path).attempts[0].verdicts[0].score == 0.75


@pytest.mark.parametrize(
    ("module", "code", "message"),
    [
        ("imports_test_absent", None, r"policies.yaml:1: imports\[0\]: no module 'imports_test_absent' in "),
        ("./my_judges.py", None, r"policies.yaml:1: imports\[0\]: .* is not a module's name; write my_judges"),
        ("imports_test_error", "1 / 0", r"imports\[0\]: importing imports_test_error failed: ZeroDivisionError"),
        ("imports_test_syntax", "def", r"imports\[0\]: importing imports_test_syntax failed: SyntaxError"),
        ("imports_test_inner", "import nonesuch_at_all", r"importing imports_test_inner failed: No module named 'nonesuch"),
        ("3", None, r"policies.yaml:1: imports\.?\[?0"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, module: str, code: str | None, message: str) -> None:
    """In a PolicyError, whatever the module raises; a module that failed is not kept."""
    (tmp_path / "policies.yaml").write_text(FILE.format(module=module, judge="rules"))
    if code is not None:
        (tmp_path / f"{module}.py").write_text(code)
    with pytest.raises(PolicyError, match=message):
        load(tmp_path / "policies.yaml")
    assert module not in sys.modules


def test_text_that_is_no_file_imports_nothing() -> None:
    """It may come from somebody else."""
    with pytest.raises(PolicyError, match="only a policy file on disk may import modules"):
        parse(FILE.format(module="this", judge="rules"))
