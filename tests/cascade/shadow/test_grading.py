"""Sampled runs are graded at once: in order, blind and in both orders, within the shadow's budget, and never paid twice."""

import json
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, Prompt, ScriptedModel, Usage
from cascade.cli import main
from cascade.journal.open_store import open_store
from cascade.models.protocol import ModelError, Request
from cascade.policy.load import parse
from cascade.shadow import grading
from tests.cascade.shadow.test_shadower import wait_until
from tests.workers import warm_python

RIGHT = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 12), cost_usd=1e-3)
WRONG = Answer("41", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-5)
PAIRWISE = "model:use=judge:mode=pairwise"


class Judge:
    """A judge model that prefers "42", whatever its place."""

    name = "judge"
    max_cost_usd = 0.001

    def __init__(self, fails: int = 0) -> None:
        self.prompts: list[str] = []
        self._fails = fails

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """The better one's number."""
        text = str(prompt.messages[-1]["content"])
        self.prompts.append(text)
        if self._fails:
            self._fails -= 1
            raise ModelError("busy", model="judge", status=503, retryable=False)
        first = text.index("42\n</candidate") < text.index("41\n</candidate")
        return [Answer("1" if first else "2", cost_usd=0.0004)]

    async def close(self) -> None:
        """Nothing to close."""


class Unpriced(Judge):
    """A judge model that does not state what a reply may cost."""

    name = "free"
    max_cost_usd = None  # type: ignore[assignment]


def make_cascade(url: str, grader: str, *, judge: Any = None, small: Any = WRONG, **shadow: Any) -> Cascade:
    """A cheap tier that accepts a wrong answer, and premium that knows it; all runs are sampled."""
    tiers = [
        {"name": "cheap", "model": "small", "accept_at": 0.6, "judges": ["rules", "logprob"]},
        {"name": "premium", "model": "large", "accept_at": 0.2, "judges": ["rules", "logprob"]},
    ]
    grade = {"grader": grader, **shadow.pop("grade", {})}
    settings = {"share": 1.0, "budget_usd_per_day": 1.0, "max_per_minute": 1_000, "text": True, "grade": grade, **shadow}
    policy = Policy.model_validate({"tiers": tiers, "shadow": settings})
    models: dict[str, Any] = {
        "small": ScriptedModel("small", [small]),
        "large": ScriptedModel("large", [RIGHT]),
        "judge": judge or Judge(),
        "free": Unpriced(),
    }
    return Cascade(policy, models=models, journal=url)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What the database has."""
    store = open_store(url, create=False)
    try:
        return list(store.execute(query))
    finally:
        store.close()


def labels(url: str) -> list[tuple[Any, ...]]:
    """The labels that are entered, in the order of the runs."""
    query = "SELECT l.state, l.loss, l.grader FROM cascade_labels l JOIN cascade_runs r ON r.run_id = l.run_id ORDER BY r.id"
    return [row for row in rows(url, query) if row[0] != "asked"]


def test_a_judge_model_compares_in_both_orders_and_blind(url: str, tmp_path: Path) -> None:
    """Without a command: a label for each run, paid from the shadow's budget; the command then finds nothing to do."""
    judge = Judge()
    with make_cascade(url, PAIRWISE, judge=judge) as service:
        for i in range(3):
            service.run(f"What is 6 * 7, for the {i}th time?")
        wait_until(lambda: len(labels(url)) == 3)
    assert labels(url) == [("done", 1.0, "model:use=judge@2")] * 3
    assert len(judge.prompts) == 6
    first = [prompt.index("42\n</candidate") < prompt.index("41\n</candidate") for prompt in judge.prompts[:2]]
    assert sorted(first) == [False, True]
    assert not any(name in prompt for prompt in judge.prompts for name in ("cheap", "premium", "small", "large"))
    books = rows(url, "SELECT tier, state, cost_usd, model FROM cascade_shadows WHERE tier <> 'premium' ORDER BY id")
    assert books == [("(grader)", "done", pytest.approx(0.0008), "judge")] * 3
    assert len(rows(url, "SELECT 1 FROM cascade_labels WHERE state = 'asked'")) == 0
    file = tmp_path / "policies.yaml"
    file.write_text(FILE.format(url=url), encoding="utf-8")
    assert main(["grade-shadows", "--policy-file", str(file), "--grader", "number"]) == 0


def test_what_both_tiers_say_and_what_premium_answered_costs_nothing(url: str) -> None:
    """Loss 0 without a judge: an equal answer, and an escalated run."""
    judge = Judge()
    with make_cascade(url, PAIRWISE, judge=judge, small=RIGHT) as service:
        service.run("What is 6 * 7?")
        wait_until(lambda: len(labels(url)) == 1)
    unsure = Answer("41", mean_logprob=-3.0, usage=Usage(100, 10), cost_usd=1e-5)
    with make_cascade(url, PAIRWISE, judge=judge, small=unsure) as service:
        assert service.run("What is 6 * 7, really?").tier == "premium"
        wait_until(lambda: len(labels(url)) == 2)
    assert labels(url) == [("done", 0.0, "same")] * 2
    assert judge.prompts == []


def test_references_and_feedback_grade_at_once(tmp_path: Path) -> None:
    """By a reference of the prompt, and, for another policy, once there is feedback; what has neither gets no label."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    with make_cascade(url, "feedback") as service:
        known, unknown = service.run("What is 6 * 7?"), service.run("What is 7 * 6?")
        service.feedback(known.run_id, quality=0.25)
        wait_until(lambda: len(labels(url)) == 1)
    assert labels(url) == [("done", 0.75, "feedback")]
    ((prompt_hash,),) = rows(url, f"SELECT prompt_hash FROM cascade_runs WHERE run_id = '{unknown.run_id}'")
    references = tmp_path / "references.jsonl"
    references.write_text(json.dumps({"prompt_hash": prompt_hash, "reference": "42"}) + "\n", encoding="utf-8")
    with make_cascade(url, "number", grade={"references": str(references)}) as service:
        service.run("Another question?")
        service.run("What is 7 * 6?")
        wait_until(lambda: len(labels(url)) == 2)
    assert labels(url)[1][:2] == ("done", 1.0)
    assert len(labels(url)) == 2


def test_grading_keeps_to_the_budget(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the day's budget has no room for a comparison, no judge is asked and the run has no label; later ones wait."""
    monkeypatch.setattr(grading, "PAUSE_S", 0.01)
    judge = Judge()
    with make_cascade(url, PAIRWISE, judge=judge, budget_usd_per_day=0.0035) as service:
        for i in range(4):
            service.run(f"What is 6 * 7, for the {i}th time?")
        wait_until(lambda: len(rows(url, "SELECT 1 FROM cascade_shadows WHERE state IN ('skipped', 'done')")) >= 4)
    spent = rows(url, "SELECT SUM(COALESCE(cost_usd, estimate_usd)) FROM cascade_shadows")[0][0]
    assert spent <= 0.0035
    assert len(judge.prompts) == 2 * len(labels(url))
    assert len(labels(url)) < 4


def test_a_judge_that_fails_is_asked_again_and_then_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs wait for it in order; one that failed five times is undecided, and each attempt is in the books."""
    monkeypatch.setattr(grading, "PAUSE_S", 0.01)
    judge = Judge(fails=11)  # two requests of each attempt: the sixth attempt is the second run's, which fails once
    with make_cascade(url, PAIRWISE, judge=judge) as service:
        for i in range(2):
            service.run(f"What is 6 * 7, for the {i}th time?")
        wait_until(lambda: len(labels(url)) == 2)
    assert [row[:2] for row in labels(url)] == [("undecided", None), ("done", 1.0)]
    books = rows(url, "SELECT run_id, state, cost_usd FROM cascade_shadows WHERE tier <> 'premium' ORDER BY id")
    assert [row[1] for row in books] == ["failed"] * 6 + ["done"]
    assert [row[2] for row in books[:6]] == [None] * 6  # the estimate counts


def test_two_processes_pay_once(url: str) -> None:
    """Both see the run's feedback or have it queued: one label, one payment."""
    judges = [Judge(), Judge()]
    with make_cascade(url, PAIRWISE, judge=judges[0]) as one, make_cascade(url, PAIRWISE, judge=judges[1]) as other:
        run_id = one.run("What is 6 * 7?").run_id
        assert other._shadower is not None
        other._shadower._gradings.add("default", run_id)
        other._shadower._begin_thread()
        wait_until(lambda: len(labels(url)) == 1)
    assert len(judges[0].prompts) + len(judges[1].prompts) == 2


KILLED = """
    import os
    from cascade import Answer
    from tests.cascade.shadow import test_grading as t
    class Deadly(t.Judge):
        async def answer(self, prompt, request):
            os._exit(7)
    service = t.make_cascade({url!r}, t.PAIRWISE, judge=Deadly())
    service.run("What is 6 * 7?")
    import time; time.sleep(60)
"""


def test_a_process_that_is_killed_while_it_pays_pays_no_second_time(tmp_path: Path) -> None:
    """The label stays asked and the estimate in the books; the next process leaves the run alone, and grades the others."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    code = textwrap.dedent(KILLED.format(url=url))
    process = warm_python.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], env={**os.environ}, timeout=60)
    assert process.returncode == 7
    assert rows(url, "SELECT state FROM cascade_labels") == [("asked",)]
    ((state, cost, estimate, run_id),) = rows(
        url, "SELECT state, cost_usd, estimate_usd, run_id FROM cascade_shadows WHERE tier <> 'premium'"
    )
    assert (state, cost, estimate > 0.0) == ("sent", None, True)
    judge = Judge()
    with make_cascade(url, PAIRWISE, judge=judge) as service:
        assert service._shadower is not None
        service._shadower._gradings.add("default", run_id)
        service.run("What is 7 * 6?")
        wait_until(lambda: len(labels(url)) == 1)
    assert len(judge.prompts) == 2
    assert "7 * 6" in judge.prompts[0]


def test_grading_changes_no_policy_hash() -> None:
    """So that switching it on loses no labels."""
    tiers = [{"name": "cheap", "model": "a"}, {"name": "premium", "model": "b"}]
    shadow = {"share": 0.1, "budget_usd_per_day": 1.0, "text": True}
    bare = Policy.model_validate({"tiers": tiers, "shadow": shadow})
    graded = Policy.model_validate({"tiers": tiers, "shadow": {**shadow, "grade": {"grader": "number"}}})
    assert bare.hash == graded.hash


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ("numbr", "policies.default.shadow.grade: unknown grader 'numbr'; did you mean 'number'"),
        ("model:use=nobody:mode=pairwise", "shadow.grade: a judge uses the model 'nobody', which is missing"),
        ("model:mode=pairwise", "write model:use=NAME"),
        ("model:use=free:mode=pairwise", "the price of the model free is not known"),
    ],
)
def test_a_grader_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path, grader: str, message: str) -> None:
    """It names the key."""
    with pytest.raises(PolicyError) as caught:
        make_cascade(f"sqlite:///{tmp_path / 'journal.db'}", grader)
    assert message in str(caught.value)


def test_grading_needs_texts_and_its_references_lie_beside_the_policy_file(tmp_path: Path) -> None:
    """Without ``text`` there is nothing to compare; a relative path begins at the policy file."""
    text = FILE.format(url="sqlite:///journal.db")
    with pytest.raises(PolicyError, match="grade: needs the texts of sampled runs; set text: true"):
        parse(text.replace("text: true", "text: false"))
    file = parse(text, str(tmp_path / "policies.yaml"))
    shadow = file.policies["default"].shadow
    assert shadow is not None
    assert shadow.grade is not None
    assert shadow.grade.references == str(tmp_path / "references.jsonl")


FILE = """
journal: {{url: "{url}"}}
models:
  small: {{provider: scripted, answers: ["41"]}}
  large: {{provider: scripted, answers: ["42"], price: {{input_per_mtok: 1, output_per_mtok: 2}}}}
policies:
  default:
    tiers: [{{name: cheap, model: small}}, {{name: premium, model: large}}]
    shadow:
      share: 0.5
      budget_usd_per_day: 1
      text: true
      grade: {{grader: number, references: references.jsonl}}
"""
