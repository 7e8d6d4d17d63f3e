"""Shadowing: a sampled run's other tiers are asked after it returned, within the budget, once, and entered in the books."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, Prompt, ScriptedModel, Usage
from cascade.journal.open_store import open_store
from cascade.journal.read.render import page
from cascade.journal.read.to_recording import as_recording
from cascade.journal.record import Record
from cascade.journal.store import Filter
from cascade.models.protocol import ModelError, Request
from cascade.telemetry import Telemetry
from tests.workers import warm_python

SURE = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-5)
POOR = Answer("41", mean_logprob=-2.0, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-5)
BEST = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 12), cost_usd=1e-3)
ALL = {"share": 1.0, "budget_usd_per_day": 1.0, "text": True}


def make_cascade(journal: str, small: Any = SURE, large: Any = BEST, *, shadow: Any = ALL, **settings: Any) -> Cascade:
    """Two tiers, cheap and premium, with scripted models; ``shadow`` is the policy's key."""
    judged = ["rules", "logprob"]
    tiers = [
        {"name": "cheap", "model": "small", "accept_at": 0.7, "judges": judged},
        {"name": "premium", "model": "large", "accept_at": 0.5, "judges": judged},
    ]
    scripts = {"small": small, "large": large}
    models = {
        name: script if isinstance(script, ScriptedModel) else ScriptedModel(name, [script])
        for name, script in scripts.items()
    }
    return Cascade(Policy.model_validate({"tiers": tiers, "shadow": shadow, **settings}), models=models, journal=journal)


def records(url: str) -> list[Record]:
    """What the journal holds."""
    store = open_store(url, create=False)
    try:
        return list(store.read(Filter()))
    finally:
        store.close()


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for what another thread does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """An SQLite journal's URL."""
    return f"sqlite:///{tmp_path / 'journal.db'}"


def test_the_missing_tier_is_asked_and_entered(url: str) -> None:
    """In both databases: the answer, its cost and whether it agrees; the run's own cost is not touched."""
    with make_cascade(url) as service:
        result = service.run("What is 6 * 7?")
        assert (result.tier, result.cost_usd) == ("cheap", 1e-5)
    (record,) = records(url)
    assert record.sampling_probability == 1.0
    assert list(record.shadow_tiers) == ["premium"]
    (shadow,) = record.shadows
    assert shadow["state"] == "done"
    assert shadow["agrees"] is True
    assert shadow["cost_usd"] == 1e-3
    assert shadow["answer"]["text"] == "42"
    assert record.cost_usd == 1e-5


def test_an_escalated_run_has_nothing_to_ask(journal: str) -> None:
    """A run that premium answered is complete without a shadow request."""
    large = ScriptedModel("large", [BEST])
    with make_cascade(journal, POOR, large) as service:
        service.run("What is 6 * 7?")
    (record,) = records(journal)
    assert record.sampling_probability == 1.0
    assert (list(record.shadow_tiers), list(record.shadows)) == ([], [])
    assert len(large.calls) == 1


def test_a_policy_without_shadow_has_none(journal: str) -> None:
    """No probability, no thread, and the same hash as before there was such a key."""
    with make_cascade(journal, shadow=None) as service:
        service.run("What is 6 * 7?")
        assert service._shadower is None
        assert '"shadow"' not in service.policies["default"].canonical
    (record,) = records(journal)
    assert record.sampling_probability is None


def test_a_run_does_not_wait_for_its_shadow(journal: str) -> None:
    """Premium answers only once the run has returned."""
    returned = threading.Event()

    class Waiting(ScriptedModel):
        async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
            assert await asyncio.to_thread(returned.wait, 30), "the run waits for its shadow"
            return await super().answer(prompt, request)

    with make_cascade(journal, large=Waiting("large", [BEST])) as service:
        service.run("What is 6 * 7?")
        returned.set()
    assert records(journal)[0].shadows[0]["state"] == "done"


def test_a_failing_shadow_fails_no_run_and_is_not_repeated(journal: str) -> None:
    """One request, no retry; its cost is unknown, so the reserved estimate is charged; the breaker does not count it."""
    large = ScriptedModel("large", [ModelError("large: 503", model="large", retryable=True), BEST])
    with make_cascade(journal, large=large) as service:
        assert service.run("What is 6 * 7?").accepted
        wait_until(lambda: len(large.calls) == 1)
    (shadow,) = records(journal)[0].shadows
    assert shadow["state"] == "failed"
    assert "503" in shadow["error"]
    assert "cost_usd" not in shadow
    assert shadow["estimate_usd"] == 1e-3
    assert len(large.calls) == 1
    assert service.health()["large"].failures == 0


def test_the_budget_holds_over_processes(journal: str) -> None:
    """Two Cascades on one journal, a budget for three requests: three are made, the others are entered as skipped."""
    spec = {**ALL, "budget_usd_per_day": 3.5e-3}
    larges = [ScriptedModel("large", [BEST]) for _ in range(2)]
    services = [make_cascade(journal, large=large, shadow=spec) for large in larges]
    for service in services * 4:
        service.run("What is 6 * 7?")
    for service in services:
        service.close()
    states = [record.shadows[0]["state"] for record in records(journal)]
    assert (states.count("done"), states.count("skipped")) == (3, 5)
    assert sum(len(large.calls) for large in larges) == 3


def test_at_most_so_many_a_minute(journal: str) -> None:
    """Of five runs two are shadowed at once; the others wait and stay in the books."""
    large = ScriptedModel("large", [BEST])
    service = make_cascade(journal, large=large, shadow={**ALL, "max_per_minute": 2})
    try:
        for _ in range(5):
            service.run("What is 6 * 7?")
        wait_until(lambda: len(large.calls) == 2)
        time.sleep(0.6)
        assert len(large.calls) == 2
    finally:
        service._shadower._closing = True  # type: ignore[union-attr]
        service._shadower._drained.set()  # type: ignore[union-attr]
        service.close()
    states = [shadow["state"] for record in records(journal) for shadow in record.shadows]
    assert states.count("done") == 2
    assert set(states) == {"done", "queued"}


def test_without_text_nothing_of_it_is_stored(journal: str) -> None:
    """The books say whether the answers agree, and hold no text of either."""
    secret = Answer("SECRET", mean_logprob=-0.01, cost_usd=1e-5)
    with make_cascade(journal, secret, shadow={**ALL, "text": False}) as service:
        service.run("a PRIVATE question")
    store: Any = open_store(journal, create=False)
    everything = repr([store.execute(f"SELECT * FROM {table}") for table in ("cascade_runs", "cascade_shadows")])
    store.close()
    assert "SECRET" not in everything
    assert "PRIVATE" not in everything
    (record,) = records(journal)
    assert record.shadows[0]["agrees"] is False
    assert list(as_recording([record])) == []


def test_sampled_runs_are_exported_complete(journal: str) -> None:
    """A line for each sampled run: every tier's answer, and the probability; feedback grades the one returned."""
    with make_cascade(journal) as service:
        result = service.run("What is 6 * 7?")
        service.run("What is 6 * 7?")
        service.feedback(result.run_id, quality=1.0)
    lines = list(as_recording(records(journal)))
    assert [line["sampling_probability"] for line in lines] == [1.0, 1.0]
    assert {line["id"] for line in lines} == {record.run_id for record in records(journal)}
    assert set(lines[0]["answers"]) == {"small", "large"}
    assert lines[0]["answers"]["small"]["quality"] == 1.0
    assert lines[0]["answers"]["large"]["quality"] is None
    assert lines[0]["answers"]["large"]["cost_usd"] == 1e-3
    assert lines[0]["answers"]["large"]["usage"] == {"input_tokens": 100, "output_tokens": 12}


def test_a_sampled_run_without_its_shadow_is_no_sample(journal: str) -> None:
    """Where premium failed the line has no probability: it is incomplete."""
    with make_cascade(journal, large=ModelError("large: down", model="large")) as service:
        service.run("What is 6 * 7?")
    (line,) = as_recording(records(journal))
    assert "sampling_probability" not in line
    assert set(line["answers"]) == {"small"}


def test_the_share_is_kept_and_recorded(journal: str) -> None:
    """Of 400 runs about a fifth; every run, sampled or not, has the probability."""
    with make_cascade(journal, shadow={**ALL, "share": 0.2, "max_per_minute": 1000}) as service:

        async def many() -> None:
            await asyncio.gather(*(service.arun("What is 6 * 7?") for _ in range(400)))

        asyncio.run(many())
    rows = records(journal)
    sampled = sum(bool(row.shadow_tiers) for row in rows)
    assert {row.sampling_probability for row in rows} == {0.2}
    assert 45 <= sampled <= 125


def test_metrics_count_shadow_requests_and_the_promise(journal: str) -> None:
    """By policy and state, with their cost; the promise's state and its labels."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    telemetry = Telemetry(metrics=True, registry=registry)
    tiers = [{"name": name, "model": name, "accept_at": 0.0, "judges": ["logprob"]} for name in ("cheap", "premium")]
    policy = Policy.model_validate({"tiers": tiers, "shadow": ALL, "promise": {"max_loss": 0.05}})
    models = {"cheap": ScriptedModel("cheap", [SURE]), "premium": ScriptedModel("premium", [BEST])}
    with Cascade(policy, models=models, journal=journal, telemetry=telemetry) as service:
        service.run("What is 6 * 7?")
    assert registry.get_sample_value("cascade_shadow_requests_total", {"policy": "default", "state": "done"}) == 1
    assert registry.get_sample_value("cascade_shadow_cost_usd_total", {"policy": "default"}) == pytest.approx(1e-3)
    assert registry.get_sample_value("cascade_promise_state", {"policy": "default"}) == 1
    assert registry.get_sample_value("cascade_promise_labels", {"policy": "default"}) == 0


def test_the_journal_shows_what_was_shadowed(journal: str) -> None:
    """``cascade journal show`` prints the probability, each tier asked, its cost, and whether the answers agree."""
    with make_cascade(journal) as service:
        service.run("What is 6 * 7?")
    text = "\n".join(page(records(journal)[0]))
    assert "sampling   probability 1.0000; sampled, to ask: premium" in text
    assert "shadow     tier premium (large) done, $0.001000, agrees with the answer returned" in text


def test_a_busy_model_is_left_alone(journal: str) -> None:
    """While more than half of a model's slots are in use, its shadow requests wait."""
    large = ScriptedModel("large", [BEST])
    with make_cascade(journal, large=large) as service:
        from cascade.resilience.limiters import ConcurrencyLimiter

        service.run("warm up")
        wait_until(lambda: len(large.calls) == 1)
        guard = service._runtime._guards["large"]
        limiter = guard.concurrency_limiter = ConcurrencyLimiter(1)
        asyncio.run(limiter.acquire())
        service.run("What is 6 * 7?")
        time.sleep(0.4)
        assert len(large.calls) == 1
        limiter.release()
        wait_until(lambda: len(large.calls) == 2)


def test_rows_of_a_process_that_ended_are_taken_over(journal: str) -> None:
    """What was queued with its text and never sent is asked by another process; what was sent is never asked again."""
    with make_cascade(journal) as service:
        service.run("first")
        service.run("second")
    store: Any = open_store(journal, create=False)
    first, second = (record.run_id for record in records(journal))
    store.execute(
        "UPDATE cascade_shadows SET state = 'queued', queued = 0, cost_usd = NULL, day = NULL WHERE run_id = ?",
        (first,),
    )
    store.execute("UPDATE cascade_shadows SET state = 'sent', queued = 0, cost_usd = NULL WHERE run_id = ?", (second,))
    store.close()
    large = ScriptedModel("large", [BEST])
    with make_cascade(journal, large=large) as service:
        service.run("third")
        wait_until(lambda: len(large.calls) == 2)
    assert sorted(call.prompt.text for call in large.calls) == ["first", "third"]
    states = {record.run_id: record.shadows[0]["state"] for record in records(journal)}
    assert (states[first], states[second]) == ("done", "sent")


def test_shadowing_needs_a_journal() -> None:
    """Its books are there; without it money could be spent unseen."""
    policy = Policy.model_validate({"tiers": [{"model": "a"}, {"model": "b"}], "shadow": ALL})
    models = {name: ScriptedModel(name, ["x"]) for name in "ab"}
    with pytest.raises(PolicyError, match=r"default\.shadow: needs a journal"):
        Cascade(policy, models=models)


def test_an_unknown_price_is_said_and_nothing_sent(journal: str) -> None:
    """A model whose most is unknown is never asked: no budget could be kept."""
    large = ScriptedModel("large", lambda *_: BEST)
    with make_cascade(journal, large=large) as service:
        service.run("What is 6 * 7?")
    (shadow,) = records(journal)[0].shadows
    assert shadow["state"] == "skipped"
    assert "price of the model large is not known" in shadow["error"]
    assert large.calls == []


WORKER = """
    import sys, time
    from cascade import Answer, Cascade, Policy, ScriptedModel, Usage

    journal, log = sys.argv[1:]
    answer = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-3)

    class Counted(ScriptedModel):
        async def answer(self, prompt, request):
            with open(log, "a") as file:  # what the provider would bill
                file.write(prompt.text + "\\n")
            return await super().answer(prompt, request)

    tiers = [{"name": "cheap", "model": "small", "accept_at": 0.0}, {"name": "premium", "model": "large", "accept_at": 0.0}]
    shadow = {"share": 1.0, "budget_usd_per_day": 100.0, "text": True, "max_per_minute": 100000}
    models = {"small": ScriptedModel("small", [answer]), "large": Counted("large", [answer], delay_s=0.002)}
    service = Cascade(Policy.model_validate({"tiers": tiers, "shadow": shadow}), models=models, journal=journal)
    print("ready", flush=True)
    number = 0
    while True:
        service.run(f"{time.time_ns()} {number}")
        number += 1
        time.sleep(0.001)
"""


def killed_at_random(journal: str, log: Path, times: int) -> Iterator[int]:
    """Starts a worker on the journal ``times`` times, and kills each at another moment."""
    for i in range(times):
        code = textwrap.dedent(WORKER)
        worker = warm_python.Popen(
            [sys.executable, "-c", code, journal, str(log)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        before = log.stat().st_size if log.exists() else 0
        wait_until(lambda: log.exists() and log.stat().st_size > before, 20.0)  # noqa: B023 - called at once
        time.sleep(0.002 + 0.37 * ((i * 0.618) % 1.0))
        worker.kill()
        worker.wait()
        worker.stdout.close()
        yield i


def check_books(journal: str, log: Path) -> int:
    """Every billed request is in the books once, as sent or done. Returns how many there were."""
    billed = log.read_text().splitlines() if log.exists() else []
    assert len(billed) == len(set(billed)), "a shadow answer was paid twice"
    store: Any = open_store(journal, create=False)
    rows = store.execute("SELECT state, CAST(job AS TEXT), COALESCE(cost_usd, estimate_usd) FROM cascade_shadows")
    store.close()
    prompts = [(state, json.loads(job)["prompt"]["messages"][0]["content"], usd) for state, job, usd in rows]
    paid = {prompt for state, prompt, _ in prompts if state in ("sent", "done")}
    assert set(billed) <= paid, "a request is missing from the books"
    assert all(usd == 1e-3 for state, _, usd in prompts if state in ("sent", "done"))
    return len(billed)


def test_killed_at_any_moment_nothing_is_paid_twice_or_lost(journal: str, tmp_path: Path) -> None:
    """Three processes, one after the other on one journal, are killed; a count of the provider's bill is compared."""
    log = tmp_path / "billed.txt"
    for _ in killed_at_random(journal, log, 3):
        pass
    assert check_books(journal, log) > 0


@pytest.mark.slow
def test_killed_fifty_times(journal: str, tmp_path: Path) -> None:
    """The same, fifty times."""
    log = tmp_path / "billed.txt"
    for _ in killed_at_random(journal, log, 50):
        check_books(journal, log)


def test_a_child_never_uses_a_connection_of_its_parent(journal: str) -> None:
    """Where the parent is in the middle of a statement as it forks, its connection would hang in the child."""
    with make_cascade(journal) as service:
        shadower = service._shadower
        assert shadower is not None
        book = shadower._book
        book.spent("default", "2026-01-01")
        parents = book._session
        shadower.restart()
        assert book._session is not parents
        assert parents._connection is not None  # neither used nor closed
        parents.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_shadows_its_own_runs(journal: str) -> None:
    """The thread does not survive a fork; the child's first sampled run starts another."""
    code = textwrap.dedent(
        """
        import os, sys, warnings
        from cascade import Answer, Cascade, Policy, ScriptedModel
        warnings.simplefilter("ignore")  # from Python 3.12 on a process with threads that forks
        answer = Answer("42", cost_usd=1e-3)
        tiers = [{"name": n, "model": n, "accept_at": 0.0} for n in ("cheap", "premium")]
        policy = Policy.model_validate({"tiers": tiers, "shadow": {"share": 1.0, "budget_usd_per_day": 1.0}})
        models = {n: ScriptedModel(n, [answer]) for n in ("cheap", "premium")}
        service = Cascade(policy, models=models, journal=sys.argv[1])
        service.run("parent")
        child = os.fork()
        if not child:
            service.run("child")
            service.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        service.run("parent again")
        service.close()
        """
    )
    done = warm_python.run(
        [sys.executable, "-c", code, journal],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert [record.shadows[0]["state"] for record in records(journal)] == ["done"] * 3


def test_large_prompts_that_wait_are_bounded(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While premium is busy, prompts beyond MAX_CHARS are not held: their runs are entered as skipped."""
    monkeypatch.setattr("cascade.shadow.shadower.MAX_CHARS", 10_000)
    slow = ScriptedModel("large", [BEST], delay_s=0.3)
    with make_cascade(journal, large=slow) as service:
        for i in range(12):
            service.run(f"{i} " + "x" * 3000)
        shadower = service._shadower
        assert shadower is not None
        assert sum(len(job.prompt.text) for job in list(shadower._queue)) <= 10_000
    states = [shadow["state"] for record in records(journal) for shadow in record.shadows]
    assert len(states) == 12
    assert states.count("skipped") >= 4
    assert states.count("done") >= 2


def test_a_queue_that_has_no_room_ends_somewhere(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MOST_SKIPPED a run is not even entered as skipped."""
    monkeypatch.setattr("cascade.shadow.shadower.MOST_SKIPPED", 3)
    slow = ScriptedModel("large", [BEST], delay_s=0.3)
    with make_cascade(journal, large=slow) as service:
        for _ in range(20):
            service.run("What is 6 * 7?")
            assert service._shadower is not None
            assert len(service._shadower._queue) <= 3
