"""The chosen ladder as production runs it: its policy, a run of it through the engine, and its calibration file."""

import asyncio
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade import Policy, PolicyError, Result
from cascade.policy.calibration_file import CalibrationFile, read
from cascade.policy.vote_spec import VoteSpec
from evals.recording import Example
from evals.replay import engine_check
from evals.replay.candidate_tiers import fit_tier, tier_variants
from evals.replay.rows.input_rows import ReplayError
from evals.replay.score_table import score_tier
from evals.replay.simulate import Outcome, SimulatedCascade
from evals.replay.sweep_result import Candidate
from tests.evals.replay.synthetic import examples, outcome, result

SAMPLES = {"samples": [{"text": "1", "quality": 1.0}] * 2 + [{"text": "2", "quality": 0.0}], "sample_cost_usd": 0.0005}
RULES: dict[str, list[dict[str, Any]]] = {
    "cheap": [{"use": "rules"}, {"use": "logprob"}, {"use": "self_consistency", "samples": 3}],
    "middle": [{"use": "rules"}, {"use": "logprob"}, {"use": "verifier"}],
    "dear": [{"use": "rules"}],
}
ROWS = np.arange(60, 120)


def recorded() -> list[Example]:
    """Rows whose cheap model has samples that may outvote its answer, and now and then says nothing, which is a veto; what a
    verifier said of the middle model's answers was recorded for most rows, so that it fails on the others. Some rows have a
    tool, and some answers call one that does not exist."""
    rows = examples(120, 3, cheap=SAMPLES)
    for i in range(0, 120, 9):
        empty = {**rows[i].answers["cheap"], "text": "", "quality": 0.0}
        rows[i] = replace(rows[i], answers={**rows[i].answers, "cheap": empty})
    for i in range(120):
        if i % 5:
            answer = {**rows[i].answers["middle"], "verdicts": {"verifier": 0.9 if i % 3 else 0.4}}
            rows[i] = replace(rows[i], answers={**rows[i].answers, "middle": answer})
    for i in range(0, 120, 4):
        wrong = [{"id": "c", "type": "function", "function": {"name": "g", "arguments": "{}"}}]
        calling = {"cheap": i % 8 == 0, "middle": i % 12 == 0, "dear": i % 16 == 0}
        answers = {m: {**a, "tool_calls": wrong} if calling[m] else a for m, a in rows[i].answers.items()}
        rows[i] = replace(rows[i], answers=answers, tools=({"type": "function", "function": {"name": "f"}},))
    return rows


VOTE = VoteSpec(alternatives=10, exponent=1)


def candidate(
    rows: list[Example], final: str = "last", at: tuple[float, ...] = (0.7, 0.8), last_accept_at: float = 0.0
) -> Candidate:
    """A ladder of all three models with early decisions on the first, fitted on the first half."""
    columns = {m: asyncio.run(score_tier(rows, m, rules)) for m, rules in RULES.items()}
    tiers = {m: fit_tier(c, np.arange(60), 0) for m, c in columns.items()}
    early = tier_variants(tiers["cheap"], np.arange(60))[-1]
    assert any(early.accept_at) or any(early.reject_below)
    return Candidate(
        cascade=SimulatedCascade.from_tiers(
            [early, tiers["middle"], tiers["dear"]], final, VOTE if final == "vote" else None
        ),
        thresholds=at,
        loss=0.0,
        variance=0.0,
        usd=0.0,
        last_accept_at=last_accept_at,
    )


@pytest.mark.parametrize(
    ("final", "last_accept_at"), [("last", 0.0), ("best", 0.0), ("vote", 0.0), ("vote", 0.95), ("last", 0.95)]
)
def test_the_engine_does_what_was_planned(final: str, last_accept_at: float) -> None:
    """With vetoes, samples, early decisions and either final rule the policy gives the planned outcome on every row."""
    rows = recorded()
    chosen = candidate(rows, final, last_accept_at=last_accept_at)
    policy = engine_check.to_policy(chosen)
    assert [t.model for t in policy.tiers] == ["cheap", "middle", "dear"]
    assert [t.accept_at for t in policy.tiers] == [0.7, 0.8, last_accept_at]
    assert policy.final == final
    tiers = []
    results = asyncio.run(engine_check.run_engine(policy, rows, ROWS, lambda: tiers.append(1)))
    ran, planned = engine_check.to_outcome(results, chosen.cascade.models), chosen.outcome(ROWS)
    engine_check.check_agreement(ran, planned)
    assert len(tiers) == len(results) == len(ROWS)
    assert len(set(ran.tier)) == 3
    assert ran.last_called.tolist() == planned.last_called.tolist()
    assert ran.confidence == pytest.approx(planned.confidence, abs=1e-9)
    # What the samples took was not recorded, so that a moment of the engine's own clock is in both.
    assert ran.latency_s == pytest.approx(planned.latency_s, nan_ok=True)


@pytest.mark.parametrize("change", ["tier", "quality", "accepted", "cost_usd"])
def test_one_row_that_differs_is_found(change: str) -> None:
    """In whatever way, and also where the sums are the same."""
    planned = outcome(tier=[0, 1, 1], last_called=[0, 1, 1], quality=[1.0, 0.0, 1.0], cost=[0.1, 0.2, 0.3])
    ran = replace(planned)
    values = getattr(planned, change).copy()
    values[1] = {"tier": 0, "quality": 1.0, "accepted": False, "cost_usd": 0.21}[change]
    if change == "cost_usd":
        values[2] -= 0.01
    with pytest.raises(ReplayError, match=r"disagree on [12] of 3 rows .*defect of cascade: please report it"):
        engine_check.check_agreement(replace(ran, **{change: values}), planned)
    engine_check.check_agreement(ran, planned)


def test_a_tampered_threshold_is_found() -> None:
    """The policy of another threshold does not pass for the one that was planned."""
    rows = recorded()
    chosen = candidate(rows)
    other = engine_check.to_policy(replace(chosen, thresholds=(1.0, 0.8)))
    ran = engine_check.to_outcome(asyncio.run(engine_check.run_engine(other, rows, ROWS)), chosen.cascade.models)
    with pytest.raises(ReplayError, match="disagree"):
        engine_check.check_agreement(ran, chosen.outcome(ROWS))


def test_rounding_of_costs_is_no_disagreement() -> None:
    """A sum in another order is the same sum."""
    planned = outcome(tier=[0], last_called=[0], cost=[0.1 + 0.2])
    engine_check.check_agreement(replace(planned, cost_usd=np.array([0.3])), planned)


def policy_with(**settings: Any) -> Policy:
    """A policy of two tiers, as a user may write one."""
    tiers = [{"model": "cheap", "judges": ["logprob"], "accept_at": 0.8}, {"model": "dear", "accept_at": 0.9}]
    return Policy.model_validate({"tiers": tiers, **settings})


def run(policy: Policy, rows: list[Example]) -> list[Result]:
    """All rows."""
    return asyncio.run(engine_check.run_engine(policy, rows, np.arange(len(rows))))


def test_a_policy_that_raises_abstains() -> None:
    """One unsure row does not end the replay: it counts as unanswered, with what was paid for it."""
    rows = examples(30)
    ran = [engine_check.to_outcome(run(policy_with(when_unsure=w), rows), ["cheap", "dear"]) for w in ("abstain", "raise")]
    for field in fields(Outcome):
        assert getattr(ran[0], field.name).tolist() == getattr(ran[1], field.name).tolist()
    unsure = ~ran[0].accepted
    assert 0 < unsure.sum() < 30
    assert (ran[0].quality[unsure] == 0).all()
    assert ran[0].cost_usd[unsure] == pytest.approx(np.full(unsure.sum(), 0.021))
    best = engine_check.to_outcome(run(policy_with(), rows), ["cheap", "dear"])
    assert best.quality[unsure].sum() > 0


def test_a_run_without_any_answer_names_its_row() -> None:
    """A budget too small for the first call is the policy's fault, and said so."""
    with pytest.raises(ReplayError, match=r"example 'row-0': .*budget"):
        run(Policy.model_validate({"tiers": [{"model": "cheap"}], "budget_usd": 0.0}), examples(2))


def test_a_judge_that_asks_another_model_reads_recorded_verdicts() -> None:
    """The verifier's model is not called: its verdict is recorded, or it has no score."""
    judge = {"use": "verifier", "model": "elsewhere"}
    policy = Policy.model_validate(
        {"tiers": [{"model": "cheap", "judges": [judge], "accept_at": 0.5}, {"model": "dear"}], "on_judge_error": "ignore"}
    )
    rows = examples(4, cheap={"verdicts": {"verifier": 0.75}})
    assert [r.confidence for r in run(policy, rows)] == [0.75] * 4
    [silent] = run(policy, examples(1))
    assert silent.attempts[0].verdicts[0].score is None
    assert silent.attempts[0].verdicts[0].failed


def test_an_ungraded_answer_is_an_error() -> None:
    """Unknown is not 0: a sample without a grade cannot be counted."""
    results = [result("a", "x"), result("a", "y", None), result("a", "z", None)]
    with pytest.raises(ReplayError, match=r"2 of 3 answers .* not graded: .*grade the samples, or leave the judge out"):
        engine_check.to_outcome(results, ["a"])
    assert engine_check.to_outcome(results[:1], ["a"]).quality.tolist() == [1.0]


def test_an_unknown_cost_is_nan() -> None:
    """And never 0."""
    ran = engine_check.to_outcome([replace(result("b", "x"), cost_usd=None)], ["a", "b"])
    assert np.isnan(ran.cost_usd).all()
    assert ran.tier.tolist() == [1]


def artefact(**change: Any) -> CalibrationFile:
    """A calibration file's content."""
    rows = recorded()
    chosen = candidate(rows)
    settings: dict[str, Any] = {
        "recording": {"name": "r.jsonl", "sha256": "0" * 64, "n": 120}, "candidates": RULES, "seed": 7,
        "splits": {"fit": 60, "test": 60}, "promise": {"kind": "max_loss"}, "certificate": {"certified": True},
        "evidence": {"test": {"n": 60}},
    }  # fmt: skip
    return engine_check.to_calibration_file(chosen, **{**settings, **change})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """The file loads as the same artefact, with the policy's tiers, mappings and stage thresholds."""
    calibration, path = artefact(), tmp_path / "c.json"
    engine_check.write_calibration(path, calibration)
    read_back = read(path)
    assert read_back == calibration
    assert [t.model for t in read_back.chosen] == ["cheap", "middle", "dear"]
    assert [c.model for c in read_back.candidates] == list(RULES)
    assert read_back.chosen[0].judges[1].accept_at is not None or read_back.chosen[0].judges[1].reject_below is not None
    assert len(read_back.chosen[0].confidence or ()) == 4
    assert (read_back.seed, read_back.splits) == (7, {"fit": 60, "test": 60})


def test_a_file_that_differs_by_its_date_stays(tmp_path: Path) -> None:
    """The same replay a day later changes no byte; any other difference is written."""
    path = tmp_path / "c.json"
    first = artefact()
    engine_check.write_calibration(path, first.model_copy(update={"created": "2020-01-01T00:00:00Z"}))
    before = path.read_bytes()
    engine_check.write_calibration(path, first)
    assert path.read_bytes() == before
    engine_check.write_calibration(path, first.model_copy(update={"seed": 8}))
    assert json.loads(path.read_text())["seed"] == 8
    assert json.loads(path.read_text())["created"] == first.created


def test_a_calibration_is_at_most_what_production_loads(tmp_path: Path) -> None:
    """A larger one is not written, with what takes the room; nor is it read."""
    path = tmp_path / "c.json"
    with pytest.raises(ReplayError, match=r"would have 1,\d{3},\d{3} bytes, 1,\d{3},\d{3} of them in `profile`"):
        engine_check.write_calibration(path, artefact().model_copy(update={"profile": ["x" * 1_000_000]}))
    assert not path.exists()
    path.write_text(" " * 1_000_001)
    with pytest.raises(PolicyError, match="larger than 1,000,000 bytes"):
        read(path)


@pytest.mark.parametrize("old", ["", "{", "[1]", "null", '"text"', "\udcff"])
def test_what_stands_there_may_be_anything(tmp_path: Path, old: str) -> None:
    """A file that is not a calibration is replaced."""
    path = tmp_path / "c.json"
    path.write_bytes(old.encode("utf-8", "surrogateescape"))
    calibration = artefact()
    engine_check.write_calibration(path, calibration)
    assert read(path) == calibration


@pytest.mark.parametrize("stopped", ["fsync", "replace"])
def test_a_write_that_is_cut_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: str) -> None:
    """Killed before the new file is whole, or before it takes the old one's place, there is the old one alone."""
    path = tmp_path / "c.json"
    calibration = artefact()
    engine_check.write_calibration(path, calibration)
    before = path.read_bytes()

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"os.{stopped}", killed)
    with pytest.raises(KeyboardInterrupt):
        engine_check.write_calibration(path, calibration.model_copy(update={"seed": 9}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_take_it_is_an_error(tmp_path: Path) -> None:
    """One that is missing, or a file in its place; nothing is left behind."""
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "none" / "c.json", tmp_path / "file" / "c.json", tmp_path):
        with pytest.raises(OSError, match=r"No such file|Not a directory|Is a directory|directory"):
            engine_check.write_calibration(target, artefact())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    """NaN in the evidence is null in the file: unknown."""
    engine_check.write_calibration(tmp_path / "c.json", artefact(evidence={"x": float("nan")}))
    assert json.loads((tmp_path / "c.json").read_text())["evidence"] == {"x": None}
