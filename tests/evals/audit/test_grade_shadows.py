"""Sampled runs are graded once each, in order, by any grader; nothing is paid twice."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, ScriptedModel
from cascade.journal.labels import LabelBook
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from cascade.models.protocol import ModelError
from evals.audit.grade_shadows import main
from evals.audit.grading.sampled_runs import SampledRun, Survey, sampled_runs
from evals.audit.grading.shadow_grading import ShadowGrading, grade_runs
from evals.grade import GradingCase

QUESTIONS = {"6 * 7": 42, "2 + 2": 4, "9 - 1": 8, "5 * 5": 25}


def answers(*wrong: str) -> Any:
    """A script that answers the questions, some of them wrongly."""

    def script(prompt: Any, _: Any) -> Answer:
        value = QUESTIONS[prompt.text] + (prompt.text in wrong)
        return Answer(f"The answer is {value}.", mean_logprob=-0.01, cost_usd=1e-5)

    return script


class Priced(ScriptedModel):
    """A scripted model whose most is known."""

    max_cost_usd = 1e-3  # type: ignore[assignment]


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """A journal of four shadowed runs; the cheap tier is wrong in two, premium in one."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    tiers = [{"name": name, "model": name, "accept_at": 0.0, "judges": ["rules"]} for name in ("cheap", "premium")]
    shadow = {"share": 1.0, "budget_usd_per_day": 1.0, "text": True}
    models = {
        "cheap": ScriptedModel("cheap", answers("6 * 7", "2 + 2")),
        "premium": Priced("premium", answers("2 + 2", "5 * 5")),
    }
    with Cascade(Policy.model_validate({"tiers": tiers, "shadow": shadow}), models=models, journal=url) as service:
        for question in QUESTIONS:
            service.run(question)
    return url


def runs_of(url: str) -> list[SampledRun]:
    """The sampled runs of a journal."""
    store = open_store(url, create=False)
    try:
        return list(sampled_runs(store.read(Filter()), store.policies(), Survey({})))
    finally:
        store.close()


def labels(url: str) -> dict[str, tuple[str, float | None, str]]:
    """State, loss and grader by question."""
    store: Any = open_store(url, create=False)
    try:
        prompts = {record.run_id: record.prompt["messages"][0]["content"] for record in store.read(Filter())}
        rows = store.execute("SELECT run_id, state, loss, grader FROM cascade_labels ORDER BY number")
        return {prompts[run_id]: (state, loss, grader) for run_id, state, loss, grader in rows}
    finally:
        store.close()


def references(url: str, folder: Path) -> Path:
    """A file with the right answer of each run."""
    file = folder / "references.jsonl"
    rows = [
        {"run_id": run.record.run_id, "reference": QUESTIONS[str((run.record.prompt or {})["messages"][0]["content"])]}
        for run in runs_of(url)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_references_give_losses_of_either_sign(journal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """+1 where only premium is right, -1 where only the cascade is, 0 without a grade where both say the same."""
    file = references(journal, tmp_path)
    assert main(["--journal", journal, "--grader", "number", "--references", str(file)]) == 0
    rows = labels(journal)
    assert {question: row[1] for question, row in rows.items()} == {"6 * 7": 1.0, "2 + 2": 0.0, "9 - 1": 0.0, "5 * 5": -1.0}
    assert rows["9 - 1"][2] == "same"
    assert rows["6 * 7"][2].startswith("number")
    assert "4 runs labelled: 2 graded" in capsys.readouterr().out
    assert main(["--journal", journal, "--grader", "number", "--references", str(file)]) == 0
    assert "4 had a label already" in capsys.readouterr().out


def test_without_a_reference_a_run_is_not_labelled(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where both answers say the same: what can be graded must not depend on the answers."""
    assert main(["--journal", journal, "--grader", "number"]) == 0
    assert labels(journal) == {}
    assert "4 could not be graded" in capsys.readouterr().out


POLICIES = """
models:
  judge: {{provider: scripted, answers: {answers}, price: {{input_per_mtok: 1, output_per_mtok: 1}}}}
policies:
  default: {{tiers: [{{model: judge}}]}}
"""


@pytest.mark.parametrize(("replies", "loss"), [(["1", "2"], -1.0), (["2", "1"], 1.0), (["1", "1"], 0.0), (["tie"], 0.0)])
def test_a_model_compares_in_both_orders(journal: str, tmp_path: Path, replies: list[str], loss: float) -> None:
    """A preference for the first position cancels out."""
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES.format(answers=json.dumps(replies)), encoding="utf-8")
    grader = "model:use=judge:mode=pairwise"
    assert main(["--journal", journal, "--policy-file", str(file), "--grader", grader]) == 0
    rows = labels(journal)
    assert rows["6 * 7"][1] == loss
    assert rows["9 - 1"] == ("done", 0.0, "same")


def test_feedback_is_a_grade(journal: str) -> None:
    """Premium is taken to be right, so the loss is what feedback says is missing; runs without feedback have no label."""
    service = Cascade(
        Policy.model_validate({"tiers": [{"model": "m"}]}), models={"m": ScriptedModel("m", ["x"])}, journal=journal
    )
    with service:
        service.feedback(runs_of(journal)[0].record.run_id, quality=0.25)
    assert main(["--journal", journal, "--grader", "feedback"]) == 0
    assert labels(journal) == {"6 * 7": ("done", 0.75, "feedback")}


class Failing:
    """A grader that fails on one question."""

    name, version, needs_reference, waits = "failing", "1", False, False

    def __init__(self, question: str, error: Exception) -> None:
        self.question, self.error = question, error
        self.cases: list[str] = []

    def check(self, reference: Any) -> None:
        """Takes every reference."""

    def grade(self, case: GradingCase) -> float:
        """1, but for the one question."""
        self.cases.append(case.prompt.text)
        if case.prompt.text == self.question:
            raise self.error
        return 1.0


def test_an_outage_stops_and_the_next_command_goes_on(journal: str) -> None:
    """Labels before the failure stay; the failed run and those after it are labelled by the next command, once."""
    book = LabelBook(partial(open_store, journal))
    failing = Failing("6 * 7", ModelError("judge: 503", model="judge", status=503, retryable=True))
    report = asyncio.run(grade_runs(runs_of(journal), ShadowGrading(grader=failing), book))
    assert report.stopped is not None
    assert labels(journal) == {}
    report = asyncio.run(grade_runs(runs_of(journal), ShadowGrading(grader=Failing("-", ValueError())), book))
    assert (report.graded, report.free, report.stopped) == (2, 2, None)
    book.close()


def test_a_refused_text_is_undecided_and_does_not_block(journal: str) -> None:
    """A 400 says something of one run alone."""
    book = LabelBook(partial(open_store, journal))
    failing = Failing("6 * 7", ModelError("judge: 400", model="judge", status=400))
    report = asyncio.run(grade_runs(runs_of(journal), ShadowGrading(grader=failing), book))
    book.close()
    assert (report.graded, report.undecided, report.stopped) == (1, 1, None)
    assert labels(journal)["6 * 7"] == ("undecided", None, "failing@1")


def test_what_was_being_graded_is_not_paid_again(journal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process was killed while a judge model was asked; only --again asks it again, and only after an hour."""
    killed = LabelBook(partial(open_store, journal), clock=lambda: time.time() - 7_200)
    record = runs_of(journal)[0].record
    assert killed.claim(record.run_id, record.policy, record.policy_hash, 1.0)
    killed.close()
    file = references(journal, tmp_path)
    arguments = ["--journal", journal, "--grader", "number", "--references", str(file)]
    assert main(arguments) == 0
    assert "1 were being graded" in capsys.readouterr().out
    assert labels(journal)["6 * 7"][0] == "asked"
    assert main([*arguments, "--again"]) == 0
    assert labels(journal)["6 * 7"][:2] == ("done", 1.0)


def test_two_commands_never_claim_one_run(url: str) -> None:
    """In both databases the second of two claims fails, also once the first is finished."""
    first, second = LabelBook(partial(open_store, url)), LabelBook(partial(open_store, url))
    assert first.claim("a", "default", "h", 0.5)
    assert not second.claim("a", "default", "h", 0.5)
    first.finish("a", 0.5, "number@1")
    assert not second.claim("a", "default", "h", 0.5)
    assert second.states() == {"a": "done"}
    first.close()
    second.close()


def test_gaps_in_shadowing_drop_both_kinds_of_runs(journal: str) -> None:
    """After a shadow request that was not made, runs that premium answered count only once shadowing goes on."""
    store: Any = open_store(journal, create=False)
    rows = list(store.read(Filter()))
    policies = store.policies()
    store.close()
    gap = [{**rows[1].shadows[0], "state": "skipped"}]
    del gap[0]["answer"]
    by_premium = rows[2]._replace(tier="premium", shadow_tiers=(), shadows=())
    by_premium = by_premium._replace(attempts=[{**by_premium.attempts[0], "tier": "premium"}])
    survey = Survey({})
    runs = list(sampled_runs([rows[0], rows[1]._replace(shadows=gap), by_premium, rows[3], by_premium], policies, survey))
    assert [run.record.run_id for run in runs] == [rows[0].run_id, rows[3].run_id, by_premium.run_id]
    assert survey.left_out == {"it was not shadowed: budget, fault, or a process that ended": 2}
    assert runs[2].premium is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grader", "nmber"], "did you mean 'number'"),
        (["--grader", "number", "--since", "yesterday"], "is not a time"),
        (["--grader", "number", "--references", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_wrong_arguments_are_named(
    journal: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and one line that says what is wrong."""
    assert main(["--journal", journal, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_line_of_references_is_named(journal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With file and line."""
    file = tmp_path / "references.jsonl"
    file.write_text('{"run_id": "a", "reference": 1}\n{"reference": 2}\n', encoding="utf-8")
    assert main(["--journal", journal, "--grader", "number", "--references", str(file)]) == 2
    assert "references.jsonl:2: needs 'reference'" in capsys.readouterr().err
