"""The dashboard's quality figures: from the journal, of all processes, and nothing that failed counts as success."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from cascade.gateway.dashboard.alarms import alarms_of_drifts
from cascade.journal.open_store import open_store
from cascade.journal.read.history import OUTCOMES, Span, find_runs, groups, labels, latency_pairs
from cascade.journal.store import Filter
from cascade.promise.sampling import is_sampled
from tests.cascade.gateway.conftest import Running, Serve
from tests.evals.audit.journals import POLICY, SPEC, fill


def make_gateway(serve: Serve, folder: Path, **journal: Any) -> Running:
    """A gateway over a journal of two days, with models that nobody asks."""
    url = f"sqlite:///{folder / 'j.db'}"
    fill(url, np.random.default_rng(1), now=time.time() - 60.0, **journal)
    price = {"input_per_mtok": 1, "output_per_mtok": 1}
    models = {name: {"provider": "scripted", "answers": ["a"], "price": price} for name in ("small", "large")}
    return serve(json.dumps({"journal": {"url": url}, "models": models, "policies": {"default": SPEC}}))


def figures(running: Running, **query: Any) -> dict[str, Any]:
    """The figures with some filters."""
    response = httpx2.get(f"{running.url}/dashboard/quality", params=query, timeout=20)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def runs(running: Running, **query: Any) -> list[dict[str, Any]]:
    """The runs behind a figure."""
    response = httpx2.get(f"{running.url}/dashboard/quality/runs", params=query, timeout=20)
    assert response.status_code == 200, response.text
    return list(response.json()["runs"])


def test_the_figures_are_those_of_the_journal(serve: Serve, tmp_path: Path) -> None:
    """Counts, money, labels; the same for every process, since they are read from the database."""
    now = figures(make_gateway(serve, tmp_path, loss=0.02))
    store = open_store(f"sqlite:///{tmp_path / 'j.db'}")
    records = list(store.read(Filter()))
    store.close()
    assert now["runs"] == sum(now["history"]["runs"]) == len(records) == 400
    assert now["outcomes"] == {"accepted": 400, "unscored": 0, "not accepted": 0, "stopped": 0, "unanswered": 0}
    saved, spent = now["savings"], sum(r.cost_usd or 0.0 for r in records)
    premium = sum(r.premium_usd or 0.0 for r in records)
    assert (saved["cost_usd"], saved["premium_usd"]) == (pytest.approx(spent), pytest.approx(premium))
    assert saved["share"] == pytest.approx(1.0 - spent / premium)
    assert saved["share_low"] < saved["share"] < saved["share_high"]
    quality = now["quality"]
    assert quality["labels"] == sum(is_sampled(r.run_id, 0.5) for r in records)
    assert quality["loss_low"] <= quality["loss"] <= quality["loss_high"]
    assert now["filters"] == {"policy": ["default"], "task": ["chat", "code"], "caller": ["team-a"]}
    assert now["promises"][0]["max_loss"] == 0.05


def test_runs_that_a_budget_stopped_are_no_success(serve: Serve, tmp_path: Path) -> None:
    """Where nine of ten runs were stopped, nothing is saved by them, and the status line says so in red."""
    now = figures(make_gateway(serve, tmp_path, stopped=0.9))
    outcomes = now["outcomes"]
    assert outcomes["stopped"] > 320
    assert outcomes["accepted"] == 400 - outcomes["stopped"]
    saved = now["savings"]
    assert saved["premium_usd"] == pytest.approx(outcomes["accepted"] * 1e-3, rel=0.01)
    assert saved["share"] < 0.5, "premium's price is saved by good answers alone, every cost counts"
    assert now["status"]["level"] == "red"
    assert now["status"]["alarms"][0]["text"].endswith("of the runs were stopped by a budget or a cap.")


def test_a_broken_promise_is_red_and_a_kept_one_green(serve: Serve, tmp_path: Path) -> None:
    """The title says it; with few labels it says that it is not shown yet."""
    for name, settings, level, title in (
        ("broken", {"loss": 0.3}, "red", "A promise is broken"),
        ("kept", {"loss": 0.0, "n": 800}, "green", "The promise holds"),
        ("few", {"loss": 0.0, "n": 40}, "amber", "Not shown yet that the promise holds"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        status = figures(make_gateway(serve, folder, **settings))["status"]
        assert (status["level"], status["title"]) == (level, title), name


def test_traffic_that_needs_more_runs_is_one_line_and_no_alarm() -> None:
    """Checks with too little evidence say how much more they need; one that may differ is a warning of its own."""
    checks = [
        {"policy": "default", "check": "prompts", "state": "not enough evidence", "needed": 1_200, "words": "w"},
        {"policy": "default", "check": "calibration", "state": "not enough evidence", "needed": None, "words": "w"},
        {"policy": "default", "check": "cost", "state": "in doubt", "needed": 0, "words": "cost: may differ"},
    ]
    warning, waiting = alarms_of_drifts(checks)
    assert (warning["level"], warning["text"]) == ("amber", "Policy default: cost: may differ.")
    assert waiting["level"] == "green"
    assert waiting["text"].endswith(
        "prompts (about 1,200 more runs), calibration (no number of labels like these would show it)."
    )


def test_every_figure_leads_to_its_runs(serve: Serve, tmp_path: Path) -> None:
    """By outcome, step, task, key, tag, and those that were graded, the largest loss first."""
    running = make_gateway(serve, tmp_path, stopped=0.2, loss=0.3)
    now = figures(running, days=7)
    assert len(runs(running, outcome="stopped")) == now["outcomes"]["stopped"]
    assert {run["reason"] for run in runs(running, outcome="stopped")} == {"budget"}
    step = next(i for i, n in enumerate(now["history"]["runs"]) if 0 < n <= 100)
    assert len(runs(running, step=step)) == now["history"]["runs"][step]
    graded = runs(running, labelled=1, order="loss")
    assert [run["loss"] for run in graded] == sorted((run["loss"] for run in graded), reverse=True)
    assert graded[0]["loss"] == 1.0
    task = figures(running, task="chat")
    assert task["runs"] + figures(running, task="code")["runs"] == now["runs"]
    assert figures(running, caller="nobody")["runs"] == 0
    assert figures(running, tag="task:chat")["outcomes"] == task["outcomes"]
    assert runs(running, policy="other") == []
    detail = httpx2.get(f"{running.url}/dashboard/runs/{graded[0]['run_id']}").json()
    assert detail["source"] == "journal"


@pytest.mark.parametrize(
    "query", [{"days": 3}, {"tag": "team"}, {"tag": "te'am?:x"}, {"outcome": "good", "days": 7}, {"step": "x", "days": 7}]
)
def test_wrong_filters_are_refused(serve: Serve, tmp_path: Path, query: dict[str, Any]) -> None:
    """With the field's name."""
    running = make_gateway(serve, tmp_path, n=20)
    response = httpx2.get(f"{running.url}/dashboard/quality/runs", params=query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] in query


def test_without_a_journal_it_says_so(running: Running) -> None:
    """In amber: quality is not measured."""
    now = figures(running)
    assert now["source"] is None
    assert now["status"]["level"] == "amber"
    assert "no journal" in now["status"]["alarms"][0]["text"]
    assert httpx2.get(f"{running.url}/dashboard/quality/runs").status_code == 404


def test_an_open_breaker_is_an_alarm(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In red, by the model's name."""
    from cascade.resilience.guard import ModelHealth

    running = make_gateway(serve, tmp_path, n=20)
    health = ModelHealth(state="open", requests=20, failures=20, in_flight=0, p95_s=None)
    monkeypatch.setattr(type(running.gateway.active.cascade), "health", lambda _: {"large": health})
    alarm = figures(running)["status"]["alarms"][0]
    assert (alarm["level"], "large keeps failing" in alarm["text"]) == ("red", True)


def test_both_databases_add_up_the_same(url: str) -> None:
    """The SQL is one; Postgres and SQLite agree with a count by hand."""
    now = 1_800_000_000.0
    fill(url, np.random.default_rng(3), now=now, stopped=0.1, n=120)
    store = open_store(url, create=False)
    span = Span(since=now - 3 * 86_400, step_s=86_400, steps=4)
    rows = groups(store, span)
    records = list(store.read(Filter()))
    assert sum(row.runs for row in rows) == len(records) == 120
    assert sum(row.runs for row in rows if row.outcome == "stopped") == sum(r.reason == "budget" for r in records)
    assert {row.task for row in rows} == {"chat", "code"}
    assert {row.outcome for row in rows} <= set(OUTCOMES)
    graded = labels(store, span)
    assert len(graded) == sum(is_sampled(r.run_id, 0.5) and r.reason != "budget" for r in records)
    tagged = Span(since=span.since, step_s=span.step_s, steps=4, tag=("task", "chat"))
    assert sum(row.runs for row in groups(store, tagged)) == sum(r.tags["task"] == "chat" for r in records)
    assert len(find_runs(store, span, {"policy": "default", "outcome": "stopped"})) == sum(
        r.reason == "budget" for r in records
    )
    assert latency_pairs(store, span, {"default": POLICY.tiers[-1].name}) == []
    store.close()
