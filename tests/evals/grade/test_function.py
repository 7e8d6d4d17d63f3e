"""Any Python function as a grader: how it is found and called, and what it may give."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.grade import GraderError, GradingCase, command, grader, job
from evals.grade.command import grade


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a module that can be imported, and gives how its functions are named."""
    names: list[str] = []

    def write(source: str) -> str:
        name = f"graders_of_ours_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        return f"python:{name}"

    monkeypatch.syspath_prepend(str(tmp_path))
    yield write  # type: ignore[misc]
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "signature",
    [
        "reference, text", "text, reference", "a, b", "a, b, strict=True", "case", "case, strict=True", "*args",
        "reference, text, *, strict=True", "*, text, reference", "a, /, b",
    ],
)  # fmt: skip
def test_it_is_called_by_what_it_takes(module: Callable[[str], str], signature: str) -> None:
    """Reference and text by name in any order, else in this order; where it needs one argument, the case."""
    names = [name.strip(" *") for name in signature.split(",") if "=" not in name and name.strip(" *") not in ("", "/")]
    expression = {
        1: "case.reference + case.text" if names == ["case"] else "args[0] + args[1]",
        2: "reference + text" if "text" in names else "a + b",
    }[len(names)]
    where = module(f"def g({signature}): return 0.5 if {expression} == 'rt' else 0.0")
    assert grade("r", "t", f"{where}:g") == 0.5


@pytest.mark.parametrize("signature", ["", "a, b, c", "a, b, *, c", "reference, text, c"])
def test_what_it_cannot_be_called_with_is_said_at_once(module: Callable[[str], str], signature: str) -> None:
    """When the grader is made, not when the first answer comes."""
    where = module(f"def g({signature}): return 1.0")
    with pytest.raises(GraderError, match=r"a grader takes \(reference, text\) or \(case\), this one \("):
        grader(f"{where}:g")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def g(:", "SyntaxError"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("raise SystemExit(0)", "raised SystemExit"),
        ("x = 1", "has no attribute 'g'"),
    ],
)
def test_a_module_that_cannot_be_imported(module: Callable[[str], str], source: str, message: str) -> None:
    """The error contains what the import raised and the function's name."""
    with pytest.raises(GraderError, match=f"^python:.*:g: .*{message}"):
        grader(f"{module(source)}:g")


@pytest.mark.parametrize(
    ("value", "quality"), [("True", 1.0), ("False", 0.0), ("0.25", 0.25), ("1", 1.0), ("0", 0.0), ("None", None)]
)
def test_what_it_may_give(module: Callable[[str], str], value: str, quality: float | None) -> None:
    """A number in [0, 1], a bool, or None for "no grade"."""
    assert grader(f"{module(f'def g(case): return {value}')}:g").grade(GradingCase(text="x")) == quality


@pytest.mark.parametrize("value", ["1.5", "-0.1", "float('nan')", "'0.5'", "[1]", "1j", "float('inf')"])
def test_what_is_no_grade(module: Callable[[str], str], value: str) -> None:
    """Is an error that shows it."""
    with pytest.raises(GraderError, match=r"a grade is a number in \[0, 1\], a bool, or None"):
        grade("x", "x", f"{module(f'def g(case): return {value}')}:g")


@pytest.mark.parametrize(
    ("body", "message"), [("return {}[case.text]", "KeyError: 'x'"), ("raise SystemExit(0)", "SystemExit: 0")]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_it_raises_is_named(
    module: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, body: str, message: str
) -> None:
    """In place of a traceback, or of an end that looks like success; the file stays as it was."""
    path = tmp_path / "rec.jsonl"
    path.write_text('{"id": "a", "prompt": "q", "answers": {"m": {"text": "x"}}}\n', encoding="utf-8")
    before = path.read_bytes()
    assert command.main([str(path), "--grader", f"{module(f'{kind} g(case): {body}')}:g"]) == 2
    assert f":g raised {message}" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_its_version_is_its_own(module: Callable[[str], str]) -> None:
    """Whoever changes it says so."""
    where = module("def g(case): return 1.0\ng.version = 7")
    assert job.label(grader(f"{where}:g")) == f"{where}:g@7"


def test_it_sees_tool_calls(module: Callable[[str], str], tmp_path: Path) -> None:
    """Of an answer that called instead of speaking."""
    where: Any = module("def g(case): return case.tool_calls[0]['function']['name'] == 'weather'")
    path = tmp_path / "rec.jsonl"
    call = '{"type": "function", "function": {"name": "weather", "arguments": "{}"}}'
    path.write_text(f'{{"id": "a", "prompt": "q", "answers": {{"m": {{"text": "", "tool_calls": [{call}]}}}}}}\n')
    assert command.main([str(path), "--grader", f"{where}:g"]) == 0
    assert '"quality": 1.0' in path.read_text(encoding="utf-8")
