"""Traffic that turns is noticed in service, without labels: a state for all processes, a log line, a metric, a message."""

import json
import logging
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, ScriptedModel
from cascade.cli import main
from cascade.journal.drifts import DriftBook, WatchedTraffic
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from cascade.policy.load import parse
from cascade.policy.rollout import AppliedCalibration
from cascade.promise.drift import form_features
from cascade.promise.traffic import DriftState
from cascade.promise.traffic_events import TrafficRun
from cascade.shadow import drift_monitor
from cascade.telemetry import Telemetry
from tests.cascade.shadow.conftest import check_monitors

METRICS = pytest.importorskip("prometheus_client")
RIGHT = Answer("42", mean_logprob=-0.01, cost_usd=1e-5)


def question(rng: random.Random) -> str:
    """A prompt like those of the recording."""
    return "What is " + "a long word " * rng.randrange(2, 20) + "?"


def lines(latency_s: float | None = None) -> list[str]:
    """A profile of questions that the cheap tier answered."""
    rng = random.Random(0)
    runs = [
        TrafficRun(
            form=form_features(question(rng)),
            confidence=0.99,
            tier=0,
            escalated=False,
            refused=False,
            latency_s=latency_s,
            cost_usd=1e-5,
        )
        for _ in range(200)
    ]
    return [run.to_line() for run in runs]


def policy(profile: list[str] | None = None, **drift: Any) -> Policy:
    """Two tiers, watched for drift, with the calibration that has the profile."""
    tiers = [
        {"name": "cheap", "model": "small", "accept_at": 0.6, "judges": ["rules", "logprob"]},
        {"name": "premium", "model": "large", "accept_at": 0.2, "judges": ["rules", "logprob"]},
    ]
    one = Policy.model_validate({"tiers": tiers, "calibration": "calibration.json", "drift": drift})
    text = json.dumps({"profile": lines() if profile is None else profile or None})
    return one.with_calibrations(applied=AppliedCalibration(hash="f" * 64, name="calibration.json", text=text))


def service_of(one: Policy, journal: str, **options: Any) -> Cascade:
    """A Cascade whose cheap tier is always right."""
    models = {"small": ScriptedModel("small", [RIGHT]), "large": ScriptedModel("large", [RIGHT])}
    return Cascade(one, models=models, journal=journal, **options)


def ask(service: Cascade, prompts: list[str]) -> None:
    """Asks, and waits until the journal has the records."""
    for prompt in prompts:
        service.run(prompt)
    assert service._journal is not None
    service._journal.flush()


def states(url: str, one: Policy) -> dict[str, DriftState]:
    """What the database says of each check."""
    watched = WatchedTraffic.of(one)
    assert watched is not None
    book = DriftBook(partial(open_store, url, create=False))
    update = book.look("default", watched)
    book.close()
    return {} if update is None else {check.name: check.state for check in update.checks}


def test_a_turn_is_noticed_in_service(url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both databases: sums in place of questions are found by their prompts, and by nothing else; no text is stored."""
    posted: list[dict[str, Any]] = []
    monkeypatch.setattr(drift_monitor, "post_in_background", lambda name, variable, body: posted.append({**body}))
    one, rng = policy(webhook_env="DRIFT_HOOK"), random.Random(1)
    registry = METRICS.CollectorRegistry()
    telemetry = Telemetry(metrics=True, registry=registry)
    with service_of(one, url, telemetry=telemetry) as service, caplog.at_level(logging.INFO, "cascade.drift"):
        check_monitors(service)
        ask(service, [question(rng) for _ in range(60)])
        check_monitors(service)
        early = states(url, one)
        assert {early["tiers"], early["escalations"]} == {DriftState.ALIKE}
        assert {early["prompts"], early["calibration"]} == {DriftState.NOT_ENOUGH}
        assert all(
            r.levelname == "INFO" and "like the recording (was: not enough evidence)" in r.getMessage()
            for r in caplog.records
        )
        assert {(body["state"], body["previous"], body["needed"]) for body in posted} == {
            ("like the recording", "not enough evidence", 0)
        }
        assert {body["check"] for body in posted} == {name for name, state in early.items() if state is DriftState.ALIKE}
        assert registry.get_sample_value("cascade_drift_needed", {"policy": "default", "check": "prompts"}) == 40.0
        caplog.clear()
        posted.clear()
        ask(service, [f"{i} + {i} = ?\n{i} * {i} = ?" for i in range(120)])
        check_monitors(service)
        checks = states(url, one)
        check_monitors(service)
    assert [name for name, state in checks.items() if state is DriftState.DRIFTED] == ["prompts"]
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "policy default: prompts: differ from the recording (was: not enough evidence)" in warning.getMessage()
    changes = [(body["event"], body["check"], body["previous"]) for body in posted if body["state"] == "drifted"]
    assert changes == [("drift", "prompts", "not enough evidence")]
    labels = {"policy": "default", "check": "prompts"}
    assert registry.get_sample_value("cascade_drift_state", labels) == 3.0
    assert registry.get_sample_value("cascade_drift_runs", {"policy": "default"}) == 180.0
    store = open_store(url)
    records = list(store.read(Filter()))
    store.close()
    assert all(record.prompt is None for record in records)
    assert all(record.prompt_form is not None and len(record.prompt_form) == 7 for record in records)


def test_two_processes_count_each_run_once(url: str) -> None:
    """And a restart goes on where the last one stopped."""
    one, rng = policy(), random.Random(2)
    watched = WatchedTraffic.of(one)
    assert watched is not None
    books = [DriftBook(partial(open_store, url, full=False)) for _ in range(2)]
    unwatched = one.model_copy(update={"drift": None})  # of the same hash, and nobody else takes its runs into account
    with service_of(unwatched, url) as service:
        assert books[0].update("default", watched).runs == 0
        ask(service, [question(rng) for _ in range(5)])
        updates = [book.update("default", watched) for book in books]
        assert [(update.added, update.runs) for update in updates] == [(5, 5), (0, 5)]
    for book in books:
        book.close()
    again = DriftBook(partial(open_store, url, full=False))
    assert again.update("default", watched).runs == 5
    again.reset("default", watched)
    assert again.look("default", watched) is None
    again.close()


def test_runs_of_other_policies_do_not_count(tmp_path: Path) -> None:
    """A policy with another hash shares the journal; a policy that is not watched stores no form of its prompts."""
    url, one = f"sqlite:///{tmp_path / 'journal.db'}", policy()
    watched = WatchedTraffic.of(one)
    assert watched is not None
    book = DriftBook(partial(open_store, url, full=False))
    open_store(url).close()
    book.update("default", watched)
    other = one.model_copy(update={"drift": None, "max_calls": 7})
    with service_of(other, url) as service:
        assert service._shadower is None
        ask(service, ["What is 6 * 7?"])
    assert (book.update("default", watched).added, book.update("default", watched).runs) == (0, 0)
    book.close()
    store = open_store(url)
    (record,) = store.read(Filter())
    store.close()
    assert record.prompt_form is None


def test_a_calibration_without_a_profile_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is compared then, and the log says what to do."""
    with service_of(policy([]), f"sqlite:///{tmp_path / 'journal.db'}") as service:
        ask(service, ["What is 6 * 7?", "And 6 * 8?"])
    assert caplog.text.count("write it again with cascade replay") == 1


def test_watching_changes_no_policy_hash() -> None:
    """So that switching it on loses no labels."""
    one = policy()
    assert one.hash == one.model_copy(update={"drift": None}).hash


FILE = """
journal: {url: "sqlite:///journal.db"}
models:
  small: {provider: scripted, answers: ["42"]}
policies:
  default:
    tiers: [{name: cheap, model: small}]
    drift: {alpha: 0.05}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE, "drift: needs calibration"),
        (FILE.replace("alpha: 0.05", "alpha: 0"), "greater than 0"),
        (FILE.replace("alpha", "alfa"), "did you mean 'alpha'"),
        (FILE.replace('journal: {url: "sqlite:///journal.db"}', "").replace("drift:", "calibration: x.json\n    drift:"),
         "default.drift: needs a journal"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(text: str, message: str) -> None:
    """With what is missing."""
    with pytest.raises(PolicyError, match=message):
        parse(text, calibrated=False)


def test_the_command_shows_the_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``cascade promise`` has a line for each check of the shipped policy's calibration, once a process has looked."""
    file, url = tmp_path / "policies.yaml", f"sqlite:///{tmp_path / 'journal.db'}"
    file.write_text(STARTER, encoding="utf-8")
    open_store(url).close()
    command = ["promise", "--policy-file", str(file)]
    assert main(command) == 0
    assert "was not compared with the recording yet" in capsys.readouterr().out
    with Cascade(file) as service:
        check_monitors(service)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "default: prompts: neither like the recording nor different from it by the evidence so far; 0 runs" in out
    assert "against the recording; about 100 more would show it" in out
    assert "default: latency: " in out
    assert main([*command, "--policy", "default", "--reset"]) == 0


STARTER = """
journal: {url: "sqlite:///journal.db"}
models:
  small: {provider: recorded, recording: starter, model: smollm2-135m-instruct}
  medium: {provider: recorded, recording: starter, model: qwen2.5-coder-0.5b-instruct}
  large: {provider: recorded, recording: starter, model: qwen2.5-coder-1.5b-instruct}
policies:
  default:
    calibration: starter
    tiers:
      - name: cheap
        model: small
        judges: &judges [schema, rules, logprob, {use: verifier, model: medium}, {use: self_consistency, samples: 8}]
      - {name: balanced, model: medium, judges: *judges}
      - {name: premium, model: large, judges: [schema, rules, logprob]}
    on_judge_error: ignore
    drift: {}
"""
