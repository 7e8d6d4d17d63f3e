"""The stats: what they say agrees with the metrics and the journal."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.gateway.dashboard.snapshot import drift, percentiles
from cascade.gateway.stats import Stats
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.openai.test_chat import by_model, logged
from tests.cascade.gateway.test_health import value
from tests.wire_server import Reply, WireServer, chat


def watched(running: Running, count: int) -> Iterator[dict[str, Any]]:
    """The next snapshots."""
    with httpx2.stream("GET", f"{running.url}/dashboard/events", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])
                count -= 1
                if not count:
                    return


def test_the_figures_agree(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """Runs, tiers, escalations and money are those of the metrics and of the journal."""
    running = serve("journal: {url: sqlite:///j.db}" + POLICIES.format(url=upstream.base_url))
    upstream.reply = by_model(logged("51", -0.01), chat("51"))
    for _ in range(3):
        running.chat()
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    ids = [running.chat().json()["cascade"]["run_id"] for _ in range(2)]
    upstream.reply = Reply({"error": {}}, status=500)
    assert running.chat().status_code == 502
    running.post("/v1/feedback", {"run_id": ids[0], "quality": 0.0})
    (now,) = watched(running, 1)
    assert (now["runs"]["total"], now["runs"]["accepted"], now["runs"]["unanswered"]) == (6, 3, 1)
    assert now["runs"]["unjudged"] == 2
    assert now["tiers"] == [
        {"policy": "default", "tier": "cheap", "runs": 3, "share": 0.6},
        {"policy": "default", "tier": "premium", "runs": 2, "share": 0.4},
    ]
    assert {(e["tier"], e["reason"]): e["count"] for e in now["escalations"]} == {
        ("cheap", "unsure"): 2,
        ("cheap", "provider_failure"): 1,
    }
    spend = now["spend"]
    assert spend["compared_usd"] == pytest.approx(3 * 2e-5 + 2 * 2.2e-4)
    assert spend["premium_usd"] == pytest.approx(5 * 2e-4)
    assert spend["saved_usd"] == pytest.approx(spend["premium_usd"] - spend["compared_usd"])
    assert now["latency"]["runs"]["n"] == 6
    assert now["latency"]["premium"]["n"] == 2
    assert {c["tier"]: sum(c["counts"]) for c in now["confidence"]} == {"cheap": 3, "premium": 2}
    assert now["calibration"]["n"] == 1
    assert now["calibration"]["gap"] < 0
    assert {m["model"]: m["breaker"] for m in now["models"]} == {"small": "closed", "large": "closed", "claude": "closed"}
    assert now["policies"]["error"] is None
    assert [run["run_id"] for run in now["latest"][1:3]] == ids[::-1]
    text = httpx2.get(f"{running.url}/metrics").text
    assert value(text, "cascade_runs_total", 'policy="default"') == now["runs"]["total"]
    assert value(text, "cascade_run_premium_usd_total", 'policy="default"') == pytest.approx(spend["premium_usd"])
    running.stop()
    store = open_store(f"sqlite:///{tmp_path}/j.db", create=False)
    records = list(store.read(Filter()))
    store.close()
    assert len(records) == now["runs"]["total"]
    assert sum(r.cost_usd or 0 for r in records) == pytest.approx(spend["usd"])
    assert sum(r.premium_usd or 0 for r in records) == pytest.approx(spend["premium_usd"])


def test_one_run_from_memory_and_from_the_journal(serve: Serve, upstream: WireServer) -> None:
    """The run's attempts and verdicts; with a journal also reasons and requests."""
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    for head, source in (("", "memory"), ("journal: {url: sqlite:///j.db, durability: full}", "journal")):
        running = serve(head + POLICIES.format(url=upstream.base_url))
        run_id = running.chat().json()["cascade"]["run_id"]
        message = httpx2.get(f"{running.url}/dashboard/runs/{run_id}").json()
        assert (message["source"], message["run_id"], message["tier"]) == (source, run_id, "premium")
        assert [a["reason"] for a in message["attempts"]] == ["unsure", "last_tier"]
        assert [v["judge"] for v in message["attempts"][0]["verdicts"]] == ["schema", "rules", "logprob"]
        assert ("call_log" in message["attempts"][0]) == (source == "journal")
        assert "50?" not in json.dumps(message)
        for id in ("0" * 32, "nonsense"):
            assert httpx2.get(f"{running.url}/dashboard/runs/{id}").status_code == 404


def test_watching(running: Running, upstream: WireServer) -> None:
    """Snapshots arrive and change; without watchers none is computed; stopping the gateway ends the stream."""
    upstream.reply = by_model(logged("51", -0.01), chat("51"))
    seen = watched(running, 3)
    assert next(seen)["runs"]["total"] == 0
    running.chat()
    assert [s["runs"]["total"] for s in seen][-1] == 1
    with httpx2.stream("GET", f"{running.url}/dashboard/events", timeout=10) as stream:
        lines = stream.iter_lines()
        next(lines)
        running.stop()
        list(lines)


def test_budgets_left(serve: Serve, upstream: WireServer) -> None:
    """Of policies and of all together."""
    text = POLICIES.format(url=upstream.base_url).replace("  careful:\n", "  careful:\n    budget_usd_per_day: 2.0\n")
    upstream.reply = by_model(logged("51", -0.01), chat("51"))
    running = serve(text)
    running.chat(model="careful")
    (now,) = watched(running, 1)
    (budget,) = now["budgets"]
    assert (budget["scope"], budget["usd_per_day"]) == ("policy careful", 2.0)
    assert budget["spent_usd"] == pytest.approx(2e-5)
    assert budget["left_usd"] == pytest.approx(2.0 - 2e-5)


def test_percentiles_and_drift() -> None:
    """Unknown is null; a cascade that is too sure of itself has a gap below 0."""
    assert percentiles([]) == {"n": 0, "p50": None, "p90": None, "p99": None}
    assert percentiles([0.1 * i for i in range(11)])["p50"] == pytest.approx(0.5)
    assert drift([]) is None
    message = drift([(0.95, 1.0), (0.95, 0.0), (0.15, 0.0), (1.0, 1.0)])
    assert message is not None
    assert message["gap"] == pytest.approx((0.05 - 0.95 - 0.15 + 0.0) / 4)
    assert [(b["from"], b["n"]) for b in message["bins"]] == [(0.1, 1), (0.9, 3)]


def test_memory_is_bounded() -> None:
    """However many runs there are."""
    from cascade import Cascade, Policy, ScriptedModel
    from cascade.telemetry import Telemetry

    stats = Stats()
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0}]})
    model = ScriptedModel("m", ["x"], keep_calls=False)
    with Cascade(policy, models={"m": model}, telemetry=Telemetry(on_run=stats.add_run)) as cascade:
        for _ in range(6000):
            cascade.run("q")
    assert stats.runs == 6000
    assert len(stats.latest) == 5000
    assert len(stats._details) == 500
    assert stats.per_second(stats.latest[-1].at + 1)[-1] > 0
