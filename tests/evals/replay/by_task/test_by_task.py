"""Thresholds by task: what tuning predicts is what the engine does, and each promise is tested on its own task."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import Cascade
from cascade.data import STARTER_RECORDING
from cascade.policy import load
from evals.recording import Example, read
from evals.replay.by_task.candidates import Names, TaskCandidate, assembled
from evals.replay.by_task.promise import choose_for_each_task, choose_for_whole_and_each_task
from evals.replay.by_task.tuner import TaskTuner, tasks_of
from evals.replay.candidate_tiers import fit_tier
from evals.replay.certificate.certified_choice import TunerFactory, choose_certified
from evals.replay.certificate.guarantee import CertifiedChoice, Guarantee
from evals.replay.command import main
from evals.replay.engine_check import check_agreement, run_engine, to_outcome, to_policy
from evals.replay.rows.splits import halves
from evals.replay.score_table import TierScores, score_tier
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Goal, Tuner
from judges import Prompt
from tests.evals.replay.test_simulate import questions

TASKS = ("easy", "hard", "")
PLAN = [{"use": "forbids"}, {"use": "told_a"}]


@cache
def world() -> tuple[tuple[Example, ...], tuple[TierScores, ...], tuple[CandidateTier, ...]]:
    """Rows of three tasks, and two tiers fitted on some of them."""
    examples = tuple(Example(e.id, e.prompt, e.answers, task=TASKS[i % 3]) for i, e in enumerate(questions(180, seed=4)))
    columns = tuple(asyncio.run(score_tier(examples, f"m{m}", PLAN)) for m in range(2))
    return examples, columns, tuple(fit_tier(c, np.arange(90), seed=0) for c in columns)


def part(tiers: tuple[CandidateTier, ...], at: float | None) -> Candidate:
    """A task's candidate: the first tier's threshold, or None where the task skips it."""
    chosen = tiers if at is not None else tiers[1:]
    thresholds = (at,) if at is not None else ()
    cascade = SimulatedCascade.from_tiers(chosen)
    return Candidate(cascade=cascade, thresholds=thresholds, loss=0.0, variance=0.0, usd=0.0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.none() | st.sampled_from([0.0, 1.0]) | st.floats(0.2, 0.95), min_size=3, max_size=3))
def test_the_engine_does_what_tuning_predicts(thresholds: list[float | None]) -> None:
    """On every row: tier, quality, acceptance and cost, by the thresholds of the row's task."""
    examples, _, tiers = world()
    row_tasks = tasks_of([e.task for e in examples])
    parts = {task: part(tiers, at) for task, at in zip(sorted(set(row_tasks)), thresholds, strict=True)}
    candidate = assembled(parts, ["m0", "m1"], row_tasks, np.arange(90))
    rows = np.arange(90, 180)
    policy = to_policy(candidate)
    engine = to_outcome(asyncio.run(run_engine(policy, examples, rows)), [t.model for t in policy.tiers])
    check_agreement(engine, candidate.outcome(rows))
    assert np.array_equal(engine.last_called, candidate.outcome(rows).last_called)


def columns_of(seed: int, n: int, wrong: dict[str, float]) -> tuple[dict[str, list[TierScores]], np.ndarray]:
    """Two models' scores: the cheap one is wrong on a share of each task, and its score does not tell where."""
    rng = np.random.default_rng(seed)
    row_tasks = tasks_of([list(wrong)[i % len(wrong)] for i in range(n)])
    right = rng.random(n) >= np.array([wrong[t] for t in row_tasks])
    columns = {}
    for model, quality, usd in (("cheap", right.astype(float), 1e-5), ("dear", np.ones(n), 1e-4)):
        columns[model] = [
            TierScores(
                model=model,
                rules=({"use": "logprob"},),
                names=("logprob",),
                scores=rng.uniform(0.3, 0.9, (n, 1)),
                vetoed=np.zeros((n, 2), dtype=bool),
                quality=np.column_stack([quality, quality]),
                cost_usd=np.full((n, 2), usd),
                latency_s=np.ones((n, 2)),
                meaning=np.zeros((n, 2), dtype=np.int64),
            )
        ]
    return columns, row_tasks


def test_tasks_that_lose_nothing_go_cheap_and_the_others_to_premium() -> None:
    """Where one mean would have to serve both."""
    columns, row_tasks = columns_of(1, 900, {"easy": 0.0, "hard": 0.4})
    splits = halves(list(row_tasks), 0)
    tuner = TaskTuner(columns, splits.fit, Goal(columns["dear"][0].quality[:, 0], 0.03, "dear"), 0, row_tasks=row_tasks)
    sequence, notes = tuner.test_sequence(len(splits.certify))
    assert notes
    chosen = [c for c in sequence if isinstance(c, TaskCandidate) and c.loss < 0.03]
    cheapest = min(chosen, key=lambda c: float(c.outcome(splits.test).cost_usd.mean()))
    assert cheapest.parts["hard"].cascade.models == ("dear",)
    assert cheapest.outcome(splits.test).cost_usd.mean() < 0.6e-4
    assert cheapest.accept_at("cheap")["hard"] == "skip"
    promised = choose_for_each_task(columns, splits, 0.05, 0.1, row_tasks=row_tasks)
    by_task = {entry["task"]: entry["proved"] for entry in promised.certificate["by_task"]}
    assert by_task == {"easy": True, "hard": False}


def true_losses(choice: CertifiedChoice, row_tasks: Names, wrong: Mapping[str, float]) -> dict[str, float]:
    """Each task's mean loss over endless rows: how often it is answered cheaply, times how often that is wrong."""
    outcome = choice.chosen.outcome(np.arange(len(row_tasks)))
    cheap = np.array(choice.chosen.cascade.models)[outcome.tier] == "cheap"
    return {task: float(cheap[row_tasks == task].mean()) * share for task, share in wrong.items()}


@pytest.mark.parametrize("n", [100, 500])
def test_a_task_that_breaks_the_promise_is_rarely_answered_cheaply(n: int) -> None:
    """Loss just above the limit on some tasks: at most delta of the draws, within chance, whatever the fit rows say."""
    draws, delta, broken = 20, 0.2, 0
    wrong = {"a": 0.0, "b": 0.16, "c": 0.02, "d": 0.17}
    for seed in range(draws):
        columns, row_tasks = columns_of(seed, n, wrong)
        splits = halves(list(row_tasks), seed)
        choice = choose_for_each_task(columns, splits, 0.15, delta, row_tasks=row_tasks, seed=seed)
        broken += max(true_losses(choice, row_tasks, wrong).values()) > 0.15
        cheap = {task for task, loss in true_losses(choice, row_tasks, dict.fromkeys(wrong, 1.0)).items() if loss > 0}
        assert cheap == {entry["task"] for entry in choice.certificate["by_task"] if entry["proved"]}
        assert ("No task" in choice.certificate["words"]) == (not cheap)
    assert broken <= delta * draws + 3 * (draws * delta * (1 - delta)) ** 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"a": 0.02, "b": 0.16, "c": 0.02}, {"a": 0.07, "b": 0.08, "c": 0.06}],
    ids=["one task breaks its promise", "all together break theirs"],
)
def test_a_promise_of_the_whole_and_of_each_task_is_rarely_broken(wrong: dict[str, float]) -> None:
    """Neither is, although every test has the full level."""
    draws, delta, broken, cheaper = 20, 0.2, 0, 0
    for seed in range(draws):
        columns, row_tasks = columns_of(seed, 450, wrong)
        splits = halves(list(row_tasks), seed)
        choice = choose_for_whole_and_each_task(columns, splits, 0.06, 0.15, delta, row_tasks=row_tasks, seed=seed)
        losses = true_losses(choice, row_tasks, wrong)
        broken += max(losses.values()) > 0.15 or np.mean(list(losses.values())) > 0.06
        cheaper += choice.certificate["certified"]
        assert choice.certificate["certified"] == any(loss > 0 for loss in losses.values())
    assert broken <= delta * draws + 3 * (draws * delta * (1 - delta)) ** 0.5
    assert cheaper > 0


def test_both_promises_hold_where_one_task_must_go_to_premium() -> None:
    """The other task is answered cheaply, and its certificate is reported."""
    columns, row_tasks = columns_of(1, 900, {"easy": 0.0, "hard": 0.4})
    choice = choose_for_whole_and_each_task(columns, halves(list(row_tasks), 0), 0.03, 0.1, 0.1, row_tasks=row_tasks)
    assert {entry["task"]: entry["proved"] for entry in choice.certificate["by_task"]} == {"easy": True, "hard": False}
    assert "Cheaper: easy. All others go straight to the premium tier." in choice.certificate["words"]
    assert choice.certificate["p_value"] <= 0.1


def test_thresholds_by_task_start_where_the_loss_is_surely_small() -> None:
    """Not with what the few fit rows of a task do not contradict: the first candidate asks the premium tier."""
    columns, row_tasks = columns_of(3, 120, {"a": 0.05, "b": 0.05, "c": 0.05})
    splits = halves(list(row_tasks), 0)
    tuner = TaskTuner(columns, splits.fit, Goal(columns["dear"][0].quality[:, 0], 0.02, "dear"), 0, row_tasks=row_tasks)
    sequence, _ = tuner.test_sequence(len(splits.certify))
    assert sequence[0].outcome(splits.certify).quality.mean() == 1.0


def test_where_tasks_do_not_differ_thresholds_by_task_cost_no_more() -> None:
    """One threshold for all, which more fit rows choose, is used where it promises to be cheaper."""
    costs: dict[str, list[float]] = {"all": [], "by task": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        columns, row_tasks = columns_of(seed, 700, {"a": 0.2, "b": 0.2, "c": 0.2})
        cheap = columns["cheap"][0]
        noise = rng.normal(0, 0.25, len(row_tasks))
        scores = 1 / (1 + np.exp(-(2.0 * cheap.quality[:, 0] + noise)))
        columns["cheap"] = [replace(cheap, scores=scores[:, None])]
        splits = halves(list(row_tasks), seed)
        makers: dict[str, TunerFactory] = {"all": Tuner, "by task": partial(TaskTuner, row_tasks=row_tasks)}
        for name, make in makers.items():
            choice = choose_certified(
                columns, splits, Guarantee("max_loss", 0.03), seed=seed, method="split", tuner_class=make
            )
            costs[name].append(float(choice.chosen.outcome(splits.test).cost_usd.mean()))
    assert np.mean(costs["by task"]) <= 1.15 * np.mean(costs["all"])


def test_a_replay_writes_thresholds_by_task_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy file takes them from the calibration, and cheaper than one threshold for all."""
    monkeypatch.chdir(tmp_path)
    models = {m: f"{{provider: recorded, recording: starter, model: qwen2.5-coder-{m}-instruct}}" for m in ("0.5b", "1.5b")}
    Path("policies.yaml").write_text(
        f"models: {{small: {models['0.5b']}, large: {models['1.5b']}}}\n"
        "policies: {default: {tiers: [{model: small, judges: [schema, rules, logprob]}, "
        "{model: large, judges: [schema, rules, logprob]}]}}\n"
    )
    arguments = [str(STARTER_RECORDING), "--policy-file", "policies.yaml", "--split", "recorded", "--max-loss", "0.1"]
    assert main([*arguments, "--by", "task", "--write-policy", "tuned.yaml", "--json", "figures.json"]) == 0
    assert "by task: arithmetic 0" in " ".join(capsys.readouterr().out.split())
    figures: dict[str, Any] = json.loads(Path("figures.json").read_text())
    assert figures["certificate"]["certified"]
    assert figures["chosen"]["cost_ratio"] < 0.8
    cheap = load.load("tuned.yaml").policies["default"].tiers[0]
    assert cheap.accept_at_by_task is not None
    assert cheap.accept_at_by_task["support"] == "skip"
    assert cheap.accept_at_by_task == figures["chosen"]["by_task"]["qwen2.5-coder-0.5b-instruct"]


def test_tasks_of_the_policys_rules_are_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that name no task get what a rule says of their prompt, as runs do; a recorded task stays."""
    monkeypatch.chdir(tmp_path)
    lines = [example.to_json() for example in read(STARTER_RECORDING)]
    for i, line in enumerate(lines):
        line["task"] = "sums" if line["task"] == "arithmetic" else ("", "default")[i % 2]
    Path("answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    models = {m: f"{{provider: recorded, recording: starter, model: qwen2.5-coder-{m}-instruct}}" for m in ("0.5b", "1.5b")}
    Path("policies.yaml").write_text(
        f"models: {{small: {models['0.5b']}, large: {models['1.5b']}}}\npolicies:\n  default:\n"
        "    tasks: {rules: [{task: dates, pattern: '^(Which|Write the) date'}]}\n    tiers: "
        "[{model: small, judges: [schema, rules, logprob]}, {model: large, judges: [schema, rules, logprob]}]\n"
    )
    arguments = ["answers.jsonl", "--policy-file", "policies.yaml", "--max-task-loss", "0.15"]
    assert main([*arguments, "--write-policy", "tuned.yaml", "--json", "figures.json"]) == 0
    tasks = [entry["task"] for entry in json.loads(Path("figures.json").read_text())["by_task"]]
    assert tasks == ["(no task)", "dates", "sums"]
    at = load.load("tuned.yaml").policies["default"].tiers[0].accept_at_by_task or {}
    skipped = {task for task, threshold in at.items() if threshold == "skip"}
    assert at.keys() == set(tasks)
    assert skipped
    assert at.keys() - skipped
    with Cascade("tuned.yaml") as cascade:
        for line in lines[:606:40]:
            tags = {"task": "sums"} if line["task"] == "sums" else None
            result = cascade.run(line["prompt"], system=line.get("system"), schema=line.get("schema"), tags=tags)
            own = "dates" if re.match("(Which|Write the) date", Prompt.of(line["prompt"]).text) else "(no task)"
            assert (result.attempts[0].tier == "large") == (("sums" if tags else own) in skipped)
