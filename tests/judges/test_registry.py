"""The registry of judges, judges made of functions, and what an import costs."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from judges import (
    Answer,
    FunctionJudge,
    Judge,
    JudgeInput,
    Prompt,
    UnknownJudgeError,
    Verdict,
    judge,
    make,
    names,
    register,
    registry,
)

CASE = JudgeInput(prompt=Prompt.of("q"), answer=Answer("a"))
BUILT_IN = ["logprob", "rules", "schema", "self_consistency", "verifier"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution that brings a judge by entry point."""
    info = tmp_path / "acme_judges-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-judges\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cascade.judges]\nacme = acme_judges_module:Acme\n")
    (tmp_path / "acme_judges_module.py").write_text(
        "from judges import Verdict\n"
        "class Acme:\n"
        "    name, only_vetoes = 'acme', False\n"
        "    def __init__(self, score=0.5): self.score = score\n"
        "    def judge(self, case): return Verdict(self.name, self.score)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_judges_module", None)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name: str) -> None:
    """Every built-in judge is made by its name and carries it."""
    judge_ = make(name)
    assert isinstance(judge_, Judge)
    assert judge_.name == name
    assert judge_.only_vetoes is (name in ("rules", "schema"))


def test_names() -> None:
    """The names are sorted and hold what was registered."""
    register("mine", lambda: FunctionJudge("mine", lambda p, a: 1.0))
    assert {*BUILT_IN, "mine"} <= set(names())
    assert names() == sorted(names())


def test_register_replaces() -> None:
    """A registered judge goes before a built-in one, and a later one before an earlier."""
    register("rules", lambda: FunctionJudge("first", lambda p, a: 1.0))
    register("rules", lambda: FunctionJudge("second", lambda p, a: 1.0))
    assert make("rules").name == "second"


def test_register_options() -> None:
    """Options reach the factory."""
    register("fixed", lambda score: FunctionJudge("fixed", lambda p, a: score))
    assert make("fixed", score=0.25).judge(CASE) == Verdict("fixed", 0.25)


@pytest.mark.usefixtures("installed")
def test_entry_point() -> None:
    """A judge of an installed distribution is found by its entry point, with options."""
    assert "acme" in names()
    assert make("acme", score=0.75).judge(CASE) == Verdict("acme", 0.75)


def test_unknown() -> None:
    """An unknown name is an error that lists the known ones."""
    with pytest.raises(UnknownJudgeError, match=r"unknown judge 'nope'; known: .*rules"):
        make("nope")


def test_unknown_option() -> None:
    """An option that a judge does not take is a TypeError, a wrong value a ValueError."""
    with pytest.raises(TypeError, match="colour"):
        make("rules", colour="red")
    with pytest.raises(ValueError, match="statistic"):
        make("logprob", statistic="median")


@pytest.mark.parametrize(("opinion", "score"), [(0.5, 0.5), (True, 1.0), (False, 0.0), (None, None), (0, 0.0), (1, 1.0)])
@pytest.mark.parametrize("later", [False, True])
def test_function(opinion: Any, score: float | None, later: bool) -> None:
    """A plain and an async function may give a float, a bool or None."""
    assert _say(opinion, later) == Verdict("mine", score)


@pytest.mark.parametrize("later", [False, True])
def test_function_verdict(later: bool) -> None:
    """A Verdict of a function is kept as it is."""
    verdict = Verdict("other", veto=True, reason="no")
    assert _say(verdict, later) is verdict


@pytest.mark.parametrize("later", [False, True])
def test_function_out_of_range(later: bool) -> None:
    """A score outside [0, 1] is an error, not a score."""
    with pytest.raises(ValueError, match=r"'mine' gave the score 1\.5"):
        _say(1.5, later)


def test_decorator() -> None:
    """The decorator gives a Judge and registers it."""

    @judge("brief", only_vetoes=True)
    def brief(prompt: Prompt, answer: Answer) -> float:
        return 1.0 if len(answer.text) < 200 else 0.4

    assert isinstance(brief, Judge)
    assert make("brief") is brief
    assert brief.only_vetoes
    assert brief.judge(CASE) == Verdict("brief", 1.0)


def test_import_is_light() -> None:
    """Importing judges and making every one of them loads neither jsonschema nor regex nor pydantic."""
    code = (
        "import sys, judges\n"
        f"for name in {BUILT_IN!r}: judges.make(name)\n"
        "print([m for m in ('jsonschema', 'regex', 'pydantic', 'referencing') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


def _say(opinion: Any, later: bool) -> Verdict:
    async def slow(prompt: Prompt, answer: Answer) -> Any:
        return opinion

    async def run() -> Verdict:
        verdict = FunctionJudge("mine", slow if later else lambda p, a: opinion).judge(CASE)
        return verdict if isinstance(verdict, Verdict) else await verdict

    return asyncio.run(run())


def test_a_function_with_other_parameters_is_refused_when_it_is_registered() -> None:
    """Not only when it judges its first answer. Further parameters that have defaults are accepted."""
    with pytest.raises(TypeError, match=r"^judge 'short': the function must take \(prompt, answer\), not \(case\)"):
        judge("short")(lambda case: 1.0)  # type: ignore[arg-type, misc]
    assert "short" not in names()
    judge("short")(lambda prompt, answer, limit=3: 1.0)
    registry.unregister("short")
