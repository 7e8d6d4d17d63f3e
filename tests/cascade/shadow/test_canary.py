"""A candidate calibration has a share of the runs, is compared by labels, and is promoted or aborted."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, PolicyError, Result, ScriptedModel, UnsureError
from cascade.cli import main
from cascade.journal.canaries import Canary, CanaryBook, CanaryState
from cascade.journal.labels import LabelBook
from cascade.journal.open_store import open_store
from cascade.journal.read.export import as_lines
from cascade.journal.read.render import page
from cascade.journal.record import Record
from cascade.journal.store import Filter
from cascade.policy.load import calibrations, load
from cascade.policy.schema import PolicyFile
from cascade.telemetry import Telemetry
from tests.cascade.shadow.conftest import check_monitors

SURE = Answer("42", mean_logprob=-0.1, cost_usd=1e-5)
BEST = Answer("42", mean_logprob=-0.01, cost_usd=1e-3)
POLICIES = """
version: 1
journal: {url: "sqlite:///journal.db"}
models:
  small: {provider: scripted, answers: ["42"], price: {input_per_mtok: 1, output_per_mtok: 1}}
  large: {provider: scripted, answers: ["42"], price: {input_per_mtok: 1, output_per_mtok: 1}}
policies:
  default:
    tiers:
      - {name: cheap, model: small, judges: [logprob]}
      - {name: premium, model: large, judges: [logprob]}
    calibration: old.json
    shadow: {share: 0.000001, budget_usd_per_day: 1.0}
    CANARY
"""
CANARY = "canary: {calibration: new.json, share: 0.4}"


def calibration(cheap: float) -> dict[str, Any]:
    """A calibration that accepts the cheap tier from a confidence on."""
    candidates = [{"model": model, "judges": ["logprob"]} for model in ("small", "large")]
    chosen = [
        {"name": name, "model": model, "accept_at": at, "judges": ["logprob"]}
        for name, model, at in (("cheap", "small", cheap), ("premium", "large", 0.0))
    ]
    return {
        "schema_version": 1,
        "created": "2026-01-01",
        "library": "cascade",
        "recording": {"name": "r.jsonl", "sha256": "0" * 64, "n": 100},
        "seed": 0,
        "splits": {"fit": 100},
        "candidates": candidates,
        "chosen": chosen,
        "final": "last",
        "promise": {"kind": "max_loss", "value": 0.05, "delta": 0.1},
        "certificate": {},
    }


@pytest.fixture
def policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy file with a canary: the present calibration accepts cheap answers, the candidate none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text(json.dumps(calibration(0.5)), encoding="utf-8")
    (tmp_path / "new.json").write_text(json.dumps(calibration(0.95)), encoding="utf-8")
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES.replace("CANARY", CANARY), encoding="utf-8")
    return file


@pytest.fixture
def file(policies: Path) -> PolicyFile:
    """The policy file, read."""
    return load(policies)


def make_cascade(file: PolicyFile, **options: Any) -> Cascade:
    """A Cascade of the file with models that are sure of themselves."""
    return Cascade(
        file, models={"small": ScriptedModel("small", [SURE]), "large": ScriptedModel("large", [BEST])}, **options
    )


def records(file: PolicyFile) -> list[Record]:
    """What the journal holds."""
    assert file.journal is not None
    store = open_store(file.journal.address(), create=False)
    try:
        return list(store.read(Filter()))
    finally:
        store.close()


@pytest.fixture
def book(file: PolicyFile) -> Iterator[CanaryBook]:
    """The book of canaries."""
    assert file.journal is not None
    book = CanaryBook(partial(open_store, file.journal.address(), full=False))
    yield book
    book.close()


def canary_of(file: PolicyFile) -> Canary:
    """The file's canary."""
    canary = Canary.of("default", file.policies["default"])
    assert canary is not None
    return canary


def run_many(service: Cascade, count: int, tags: Mapping[str, str] | None = None) -> list[Result]:
    """That many runs at once."""

    async def work() -> list[Result]:
        return list(await asyncio.gather(*(service.arun("6 * 7?", tags=tags) for _ in range(count))))

    return asyncio.run(work())


def label(file: PolicyFile, candidate: float, present: float) -> None:
    """Labels every run, with a loss for each calibration."""
    assert file.journal is not None
    labels = LabelBook(partial(open_store, file.journal.address(), full=False))
    for record in records(file):
        if labels.claim(record.run_id, record.policy, record.policy_hash, 1e-6):
            labels.finish(record.run_id, candidate if record.canary == "candidate" else present, "number@1")
    labels.close()


def test_a_share_of_the_runs_has_the_candidate_and_says_so(file: PolicyFile) -> None:
    """Result, journal and exports name the candidate; the other runs have the hash of the policy without a canary."""
    with make_cascade(file) as service:
        results = run_many(service, 200)
    arms = [result.canary for result in results]
    assert 50 < arms.count("candidate") < 110
    assert {(r.canary, r.tier) for r in results} == {("candidate", "premium"), ("present", "cheap")}
    assert results[0].to_dict()["canary"] == arms[0]
    rows = {row.run_id: row for row in records(file)}
    policy = file.policies["default"]
    assert policy.candidate is not None
    hashes = {"present": policy.hash, "candidate": policy.candidate.hash}
    assert all(rows[r.run_id].canary == r.canary and rows[r.run_id].policy_hash == hashes[r.canary or ""] for r in results)
    assert policy.model_copy(update={"canary": None}).hash == policy.hash
    first = rows[results[0].run_id]
    assert f"canary     {arms[0]} calibration" in list(page(first))
    assert next(iter(as_lines([first])))["canary"] == arms[0]


def test_a_session_keeps_its_calibration(file: PolicyFile) -> None:
    """Runs with the same tag have the same one; different sessions differ."""
    with make_cascade(file) as service:
        arms = {name: {r.canary for r in run_many(service, 5, {"session": name})} for name in map(str, range(30))}
    assert all(len(arm) == 1 for arm in arms.values())
    assert {arm for each in arms.values() for arm in each} == {"present", "candidate"}


def test_the_choice_is_independent_of_the_sample_that_is_shadowed(file: PolicyFile) -> None:
    """The sample is drawn by the digits of the run's id as well; the two must not go together."""
    from cascade.engine.canary import is_candidate
    from cascade.engine.plan import CanaryPlan
    from cascade.promise.sampling import is_sampled
    from cascade.result import new_run_id

    plan = CanaryPlan(candidate=None, share=0.5, tag="session", salt="default abc")  # type: ignore[arg-type]
    ids = [new_run_id() for _ in range(4_000)]
    both = sum(is_sampled(run_id, 0.5) and is_candidate(plan, run_id, None) for run_id in ids)
    assert abs(both / 4_000 - 0.25) < 0.04


def test_an_unsure_run_says_it_too(policies: Path) -> None:
    """Also where the policy raises."""
    text = policies.read_text("utf-8").replace("calibration: old.json", "calibration: old.json\n    when_unsure: raise")
    strict = calibration(0.99)
    strict["chosen"][1]["accept_at"] = 1.0
    (policies.parent / "new.json").write_text(json.dumps(strict), encoding="utf-8")
    policies.write_text(text.replace("share: 0.4", "share: 0.9999999"), encoding="utf-8")
    with make_cascade(load(policies)) as service, pytest.raises(UnsureError) as error:
        service.run("6 * 7?")
    assert error.value.result.canary == "candidate"


def test_a_policy_without_canary_has_none(policies: Path) -> None:
    """No plan, no monitor of canaries, nothing in results."""
    policies.write_text(POLICIES.replace("CANARY", ""), encoding="utf-8")
    with make_cascade(load(policies)) as service:
        result = service.run("6 * 7?")
        assert result.canary is None
        assert "canary" not in result.to_dict()
        assert type(service._shadower._monitor).__name__ == "PromiseMonitor"  # type: ignore[union-attr]


def test_a_candidate_that_is_worse_is_aborted_everywhere(
    file: PolicyFile, book: CanaryBook, caplog: pytest.LogCaptureFixture
) -> None:
    """By the first process that sees the labels; every other follows, also one that starts later."""
    with make_cascade(file) as first, make_cascade(file) as second:
        run_many(first, 200)
        first._journal.flush()  # type: ignore[union-attr]
        label(file, candidate=0.5, present=0.0)
        with caplog.at_level(logging.INFO, "cascade.canary"):
            for service in (first, second):
                check_monitors(service)
                assert {r.canary for r in run_many(service, 40)} == {None}
                assert {r.tier for r in run_many(service, 5)} == {"cheap"}
    assert caplog.text.count("the candidate calibration is aborted (it proved worse)") == 2
    with make_cascade(file) as third:
        assert {r.canary for r in run_many(third, 40)} == {None}
    assert book.look(canary_of(file)).state is CanaryState.ABORTED


def test_a_candidate_that_is_as_good_is_not_aborted_and_becomes_ready(
    file: PolicyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cascade canary status` says both, with the runs of the two side by side."""
    with make_cascade(file) as service:
        run_many(service, 900)
        service._journal.flush()  # type: ignore[union-attr]
        label(file, candidate=0.0, present=0.0)
        check_monitors(service)
        assert {r.canary for r in run_many(service, 40)} == {"present", "candidate"}
    assert main(["canary", "status"]) == 0
    printed = capsys.readouterr().out
    assert "it is at most 0.02 worse, ready for promotion" in printed
    assert "accepted, 0 unanswered, mean cost $0.001" in printed


def test_promotion_and_rollback_are_one_command_each(file: PolicyFile, capsys: pytest.CaptureFixture[str]) -> None:
    """All processes follow, without a restart and after one."""
    with make_cascade(file) as service:
        run_many(service, 5)
        assert main(["canary", "promote"]) == 0
        assert "set policies.default.calibration to new.json and remove canary" in capsys.readouterr().out
        check_monitors(service)
        assert {(r.canary, r.tier) for r in run_many(service, 20)} == {(None, "premium")}
        with make_cascade(file) as later:
            assert {(r.canary, r.tier) for r in run_many(later, 20)} == {(None, "premium")}
        assert main(["canary", "abort", "--policy", "default"]) == 0
        check_monitors(service)
        assert {(r.canary, r.tier) for r in run_many(service, 20)} == {(None, "cheap")}
        assert main(["canary", "status"]) == 1
        assert "is aborted (by command)" in capsys.readouterr().out
        assert main(["canary", "restart"]) == 0
        check_monitors(service)
        assert {r.canary for r in run_many(service, 40)} == {"present", "candidate"}


@pytest.mark.parametrize(("on_broken", "stops"), [("premium", True), ("warn", False)])
def test_the_status_says_that_a_broken_promise_stops_the_comparison(
    policies: Path, capsys: pytest.CaptureFixture[str], on_broken: str, stops: bool
) -> None:
    """Where the policy then does something other than to warn."""
    promise = f"{CANARY}\n    promise: {{max_loss: 0.02, on_broken: {on_broken}}}"
    policies.write_text(policies.read_text(encoding="utf-8").replace(CANARY, promise), encoding="utf-8")
    file = load(policies)
    with make_cascade(file) as service:
        run_many(service, 60)
    main(["canary", "status"])
    assert "no run has the candidate" not in capsys.readouterr().out
    label(file, candidate=0.0, present=1.0)
    main(["canary", "status"])
    assert (f"on_broken: {on_broken} is in force" in capsys.readouterr().out) is stops


def test_only_runs_that_the_canary_assigned_count(file: PolicyFile, book: CanaryBook) -> None:
    """Runs from before it began do not count, and none counts twice in several processes."""
    plain = file.policies["default"].model_copy(update={"canary": None})
    with make_cascade(file.model_copy(update={"policies": {"default": plain}})) as service:
        run_many(service, 30)
    assert book.update(canary_of(file)).comparison.n == 0
    with make_cascade(file) as service:
        run_many(service, 50)
    label(file, candidate=0.1, present=0.1)
    assert book.update(canary_of(file)).comparison.n == 50
    assert book.update(canary_of(file)).added == 0
    restarted = book.decide(canary_of(file), CanaryState.RUNNING)
    assert restarted.comparison.n == book.update(canary_of(file)).comparison.n == 0


def test_another_share_begins_a_new_comparison_but_keeps_the_decision(file: PolicyFile, book: CanaryBook) -> None:
    """Labels would otherwise count with the wrong weights; an aborted candidate stays aborted."""
    from dataclasses import replace

    canary = canary_of(file)
    with make_cascade(file) as service:
        run_many(service, 50)
    label(file, candidate=0.0, present=0.0)
    assert book.update(canary).comparison.n == 50
    book.decide(canary, CanaryState.ABORTED)
    other = book.update(replace(canary, share=0.2))
    assert (other.comparison.n, other.state) == (0, CanaryState.ABORTED)


def test_every_calibration_that_runs_had_can_be_written_again(file: PolicyFile, capsys: pytest.CaptureFixture[str]) -> None:
    """By its hash, byte for byte, also after the file is gone."""
    with make_cascade(file) as service:
        run_many(service, 40)
    before = Path("old.json").read_bytes()
    Path("old.json").unlink()
    Path("policies.yaml").write_text(POLICIES.replace("CANARY", "").replace("old.json", "new.json"), encoding="utf-8")
    assert main(["canary", "history"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[-1] for line in lines) == ["new.json", "old.json"]
    old = next(line for line in lines if line.endswith("old.json")).split()[3]
    assert main(["canary", "restore", old, "--out", "again.json"]) == 0
    assert Path("again.json").read_bytes() == before
    assert main(["canary", "restore", "0000000", "--out", "x.json"]) == 2
    assert not Path("x.json").exists()


def test_no_run_has_the_candidate_while_its_state_is_unknown(file: PolicyFile, caplog: pytest.LogCaptureFixture) -> None:
    """It may be aborted: an unreadable book is not a reason to try it."""
    from cascade.errors import JournalError

    def away(*_: Any) -> Any:
        raise JournalError("the journal cannot be reached")

    patch = pytest.MonkeyPatch()
    patch.setattr(CanaryBook, "update", away)
    with make_cascade(file) as service:
        assert {r.canary for r in run_many(service, 40)} == {None}
        patch.undo()
        check_monitors(service)
        assert {r.canary for r in run_many(service, 40)} == {"present", "candidate"}
    assert "its canary cannot be checked (JournalError)" in caplog.text


def test_metrics_count_the_runs_of_both(file: PolicyFile) -> None:
    """And show the canary's state."""
    prometheus_client = pytest.importorskip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()
    with make_cascade(file, telemetry=Telemetry(metrics=True, registry=registry)) as service:
        arms = [r.canary for r in run_many(service, 40)]
    labels = {"policy": "default", "calibration": "candidate", "accepted": "true"}
    assert registry.get_sample_value("cascade_canary_runs_total", labels) == arms.count("candidate")
    assert registry.get_sample_value("cascade_canary_state", {"policy": "default"}) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("calibration: new.json", "calibration: gone.json"), "policies.default.canary.calibration: .*gone.json: no such"),
        (("calibration: new.json", "calibration: old.json"), "old.json is the calibration that the policy uses already"),
        (("share: 0.4", "share: 1.5"), "policies.default.canary.share: input should be less than 1"),
        (("share: 0.4", "chare: 0.4"), "unknown key; did you mean 'share'"),
        (("shadow: {share: 0.000001, budget_usd_per_day: 1.0}", ""), "canary: needs shadow"),
    ],
)
def test_a_wrong_canary_is_refused(policies: Path, change: tuple[str, str], message: str) -> None:
    """With file, line and key."""
    policies.write_text(policies.read_text("utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(PolicyError, match=message):
        load(policies)


def test_a_policy_with_thresholds_of_its_own_can_try_a_calibration(policies: Path) -> None:
    """The candidate's thresholds are the calibration's; the present ones stay as written."""
    text = (
        policies.read_text("utf-8")
        .replace("    calibration: old.json\n", "")
        .replace("model: small, judges", "model: small, accept_at: 0.3, judges")
    )
    policies.write_text(text, encoding="utf-8")
    policy = load(policies).policies["default"]
    assert policy.candidate is not None
    assert (policy.tiers[0].accept_at, policy.candidate.tiers[0].accept_at) == (0.3, 0.95)
    assert calibrations(policies) == [policies.parent / "new.json"]
