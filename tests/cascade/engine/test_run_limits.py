"""Runs that meet faults and limits: fallbacks, the reasons kept apart, budgets over runs, deadlines, cancellation."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import judges
from cascade import (
    Answer,
    Attempt,
    BudgetError,
    Cascade,
    DeadlineError,
    Policy,
    PolicyError,
    ProviderError,
    ScriptedModel,
    Usage,
)
from cascade.costs.budget import today
from cascade.engine.run import run
from cascade.models.protocol import ModelError, Request
from cascade.policy import load
from cascade.policy.schema import PolicyFile
from judges import Prompt
from tests.wire_server import Reply, WireServer, chat, message

GOOD = Answer("51", finish_reason="stop", usage=Usage(100, 10))
# A dollar for a million tokens: GOOD costs 110 millionths.
PRICE = {"input_per_mtok": 1.0, "output_per_mtok": 1.0}
FAST = {"attempts": 2, "initial_backoff_s": 0.0, "max_backoff_s": 0.0}


def down(name: str = "m", **more: Any) -> ModelError:
    """A transient fault."""
    return ModelError(f"{name}: HTTP 503", model=name, retryable=True, status=503, usage=Usage(), **more)


def service(models: dict[str, Any], policy: dict[str, Any], **file: Any) -> Cascade:
    """A Cascade over scripted models that have prices and quick retries; ``models`` maps names to scripts."""
    scripted: dict[str, ScriptedModel] = {}
    specs: dict[str, Any] = {}
    for name, script in models.items():
        scripted[name] = script if isinstance(script, ScriptedModel) else ScriptedModel(name, script)
        specs[name] = {"provider": "openai", "base_url": "http://localhost:1/v1", "price": PRICE, "retry": FAST}
    policy_file = PolicyFile.model_validate({"models": specs, "policies": {"default": policy}} | file)
    return Cascade(policy_file, models=scripted)


def ladder(*tiers: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    """A policy whose tiers accept anything."""
    specs_of = [{"model": t, "accept_at": 0} if isinstance(t, str) else {"accept_at": 0, **t} for t in tiers]
    return {"tiers": specs_of, **more}


def test_a_fallback_answers_before_the_next_tier_is_asked() -> None:
    """Each model has its own attempts; the answer says whose it is, and the log holds every request."""
    with service({"a": [down("a")], "b": [GOOD], "c": [GOOD]}, ladder({"model": "a", "fallbacks": ["b"]}, "c")) as cascade:
        result = cascade.run("q")
    assert (result.reason, result.tier, result.model) == ("unjudged", "a", "b")
    assert [(c.model, c.fault is None) for c in result.attempts[0].call_log] == [("a", False), ("a", False), ("b", True)]
    assert result.cost_usd == pytest.approx(110e-6)


def test_when_all_of_a_tier_fail_the_next_is_asked() -> None:
    """The attempt lists every fault, and its reason is the provider's failure, not the answer's quality."""
    models = {"a": [down("a")], "b": [ModelError("b: HTTP 401", model="b", usage=Usage())], "c": [GOOD]}
    with service(models, ladder({"model": "a", "fallbacks": ["b"]}, "c")) as cascade:
        result = cascade.run("q")
    first = result.attempts[0]
    assert first.reason == "provider_failure"
    assert first.error == "a: HTTP 503; b: HTTP 401"
    assert result.tier == "c"


def test_when_all_fail_one_exception_says_what_was_tried() -> None:
    """Never an empty answer without an error."""
    with (
        service({"a": [down("a")], "b": [down("b")]}, ladder("a", "b")) as cascade,
        pytest.raises(ProviderError, match=r"a: HTTP 503 \(2 requests\); b \(b\): b: HTTP 503 \(2 requests\)") as raised,
    ):
        cascade.run("q")
    assert [len(a.call_log) for a in raised.value.attempts] == [2, 2]


def test_a_fallbacks_confidence_is_not_called_calibrated() -> None:
    """The mapping was fitted for the tier's own model."""
    fitted = [{"method": "constant", "p": 0.9}]
    tier = {"model": "a", "fallbacks": ["b"], "confidence": fitted}
    with service({"a": [down("a")], "b": [GOOD]}, ladder(tier)) as cascade:
        result = cascade.run("q")
    assert (result.confidence, result.calibrated) == (0.9, False)
    with service({"a": [GOOD], "b": [GOOD]}, ladder(tier)) as cascade:
        assert cascade.run("q").calibrated


def test_the_breaker_sends_the_next_runs_past_a_broken_model() -> None:
    """After enough failures it is not asked any more, and health() says so."""
    broken = ScriptedModel("a", [down("a")])
    with service({"a": broken, "b": [GOOD]}, ladder("a", "b")) as cascade:
        for _ in range(30):
            assert cascade.run("q").text == "51"
        calls = len(broken.calls)
        assert calls == 20
        assert cascade.health()["a"].state == "open"
        assert cascade.health()["a"].failures == 20
        assert cascade.health()["b"].state == "closed"
        last = cascade.run("q")
    assert "circuit breaker is open" in str(last.attempts[0].error)
    assert last.cost_usd == pytest.approx(110e-6)


@pytest.mark.parametrize("rule", ["escalate", "ignore", "raise"])
def test_a_judges_own_model_that_fails_is_a_judge_failure(rule: str) -> None:
    """Neither a low score nor the tier's provider failure, whatever the policy says to do about it."""
    tier = {"model": "a", "accept_at": 0.4, "judges": [{"use": "verifier", "model": "v"}]}
    with service({"a": [GOOD], "v": [down("v")], "b": [GOOD]}, ladder(tier, "b", on_judge_error=rule)) as cascade:
        if rule == "raise":
            with pytest.raises(ModelError, match="v: HTTP 503"):
                cascade.run("q")
            return
        result = cascade.run("q")
    first = result.attempts[0]
    assert first.reason == ("judge_failure" if rule == "escalate" else "unjudged")
    assert all(v.score is None for v in first.verdicts)
    assert [(c.purpose, c.fault is None) for c in first.call_log] == [
        ("answer", True),
        ("verifier", False),
        ("verifier", False),
    ]


def test_a_lost_request_makes_the_cost_unknown() -> None:
    """It may have been billed; the answer itself is still returned."""
    lost = ModelError("a: timed out", model="a", retryable=True)
    with service({"a": iter_once(lost, GOOD)}, ladder("a")) as cascade:
        result = cascade.run("q")
    assert result.text == "51"
    assert result.cost_usd is None
    assert [c.cost_usd for c in result.attempts[0].call_log] == [None, pytest.approx(110e-6)]


def iter_once(*replies: Any) -> Callable[[Prompt, Request], Any]:
    """Each reply once, then the last for ever."""
    left = list(replies)

    def script(prompt: Prompt, request: Request) -> Any:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply

    return script


def until_refused(cascade: Cascade, *policies: str) -> tuple[int, str]:
    """How many runs, by the policies in turn, until the budget allows no more; and what is said then."""
    for done in range(1000):
        try:
            cascade.run("q", policy=policies[done % len(policies)])
        except BudgetError as error:
            return done, str(error)
    raise AssertionError("the budget never ended")


def test_a_days_budget_ends_with_an_error() -> None:
    """Runs until the day's money is held back or spent; then none, and what was spent never passes the limit."""
    with service({"a": [GOOD]}, ladder("a", budget_usd_per_day=0.02)) as cascade:
        done, message = until_refused(cascade, "default")
        spent = asyncio.run(cascade.ledger.spent(f"{today()} policy default"))
    assert "policy default" in message
    assert spent == pytest.approx(done * 110e-6)
    # The last run that does not fit is one whose estimate does not: 4,096 tokens of output are held back for each.
    assert 0.02 - 0.005 < spent <= 0.02


def test_one_budget_over_all_policies() -> None:
    """The top-level budget counts every policy's runs."""
    both = {"default": ladder("a"), "other": ladder("a")}
    with service({"a": [GOOD]}, ladder("a"), budget_usd_per_day=0.009, policies=both) as cascade:
        done, message = until_refused(cascade, "default", "other")
    assert "all policies" in message
    assert (0.009 - 0.005) / 110e-6 < done <= 0.009 / 110e-6


def test_many_tasks_and_threads_never_pass_a_days_budget() -> None:
    """Sixty-four tasks in each of four threads, each with an event loop of its own, on one Cascade."""
    policy = ladder("a", budget_usd_per_day=0.1)
    spent: list[float] = []
    lock = threading.Lock()
    with service({"a": ScriptedModel("a", [GOOD], delay_s=0.001, keep_calls=False)}, policy) as cascade:

        async def one() -> None:
            for _ in range(10):
                try:
                    result = await cascade.arun("q")
                except BudgetError:
                    continue
                with lock:
                    spent.append(result.cost_usd or 0.0)

        async def many() -> None:
            await asyncio.gather(*(one() for _ in range(64)))

        threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 0.02 < sum(spent) <= 0.1


def test_a_budget_bounds_the_answers_it_pays_for() -> None:
    """Where nothing else bounds an answer's length, the request says the bound that the estimate assumed."""
    model = ScriptedModel("a", [GOOD])
    with service({"a": model}, ladder("a")) as cascade:
        cascade.run("q")
        cascade.run("q", budget_usd=1.0)
        with pytest.raises(BudgetError, match=r"budget of the run: \$0 of \$0\.001 spent or reserved"):
            cascade.run("q", budget_usd=0.001)
    assert [c.request.max_tokens for c in model.calls] == [None, 4096]


def test_samples_have_a_cap_of_their_own() -> None:
    """The run stops with the answer it has, not accepted, and says why."""
    tier = {"model": "a", "accept_at": 0.9, "judges": [{"use": "self_consistency", "samples": 8}]}
    texts = [Answer(str(i), usage=Usage(10, 1)) for i in range(20)]
    with service({"a": texts}, ladder(tier, max_samples=3)) as cascade:
        result = cascade.run("q")
    assert (result.accepted, result.reason, result.text) == (False, "max_samples", "0")
    assert sum(c.n for c in result.attempts[0].call_log if c.purpose == "self_consistency") <= 3


@pytest.mark.parametrize("hangs", ["a", "v"])
def test_a_run_ends_at_its_deadline(hangs: str) -> None:
    """Whoever hangs, the model or the judge's: with an answer it is returned, marked; without one an exception."""

    async def main() -> None:
        tier = {"model": "a", "judges": [{"use": "verifier", "model": "v"}]}
        models = {m: ScriptedModel(m, [GOOD], delay_s=30.0 if m == hangs else 0.0) for m in ("a", "v")}
        async with service(models, ladder(tier)) as cascade:
            started = time.perf_counter()
            if hangs == "a":
                with pytest.raises(DeadlineError):
                    await cascade.arun("q", deadline_s=0.2)
            else:
                result = await cascade.arun("q", deadline_s=0.2)
                assert (result.text, result.accepted, result.reason) == ("51", False, "deadline")
                assert result.cost_usd is None  # the verifier's request was cut off, and may be billed
            assert 0.15 < time.perf_counter() - started < 5

    asyncio.run(main())


def test_waiting_leaves_time_for_the_next_tier() -> None:
    """A provider that asks for a long wait does not eat the time of a healthy one."""
    models = {"a": [down("a", retry_after_s=7.0)], "b": [GOOD]}
    with service(models, ladder("a", "b")) as cascade:
        started = time.perf_counter()
        assert cascade.run("q", deadline_s=10.0).text == "51"
        assert time.perf_counter() - started < 7


def test_cancelling_the_caller_cancels_upstream_and_settles() -> None:
    """The request stops, what was held back for it counts as spent, and the place under the limit is free again."""

    async def main() -> None:
        model = ScriptedModel("a", [GOOD], delay_s=30.0)
        async with service({"a": model}, ladder("a", budget_usd_per_day=1.0)) as cascade:
            task = asyncio.create_task(cascade.arun("q"))
            while not model.calls:
                await asyncio.sleep(0.001)
            assert cascade.health()["a"].in_flight == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert cascade.health()["a"].in_flight == 0
            assert await cascade.ledger.spent(f"{today()} policy default") == pytest.approx(4.1e-3, rel=0.05)

    asyncio.run(main())


UNPRICED = """version: 1
models:
  a: {provider: openai, model: nobody-sells-this, base_url: "http://localhost:1/v1"}
policies:
  default:
    budget_usd: 0.5
    tiers: [{model: a, accept_at: 0}]
"""


def test_a_budget_over_an_unknown_price_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the file is checked, with line and remedy; and for a run's own budget when it is asked for."""
    file = tmp_path / "policies.yaml"
    file.write_text(UNPRICED)
    with pytest.raises(PolicyError, match=r"policies\.yaml:6: policies\.default\.budget_usd: .* give models\.a\.price"):
        load.load(file)
    from cascade.cli import main

    assert main(["check", str(file)]) == 2
    assert "is not known" in capsys.readouterr().err
    file.write_text(UNPRICED.replace("    budget_usd: 0.5\n", ""))
    with Cascade(file) as cascade, pytest.raises(PolicyError, match=r"models\.a\.price"):
        cascade.run("q", budget_usd=0.1)


def test_recorded_answers_know_their_cost() -> None:
    """The packaged policy may have a budget: a recording states what each answer cost."""
    with Cascade(load.packaged()) as cascade:
        question = "What is the capital of France? Reply with the answer only."
        assert cascade.run(question, budget_usd=1.0).cost_usd is not None


class Stubborn:
    """A model that hangs and does not let itself be cancelled."""

    name = "s"

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def answer(self, prompt: Prompt, request: Request) -> list[Answer]:
        """For two seconds."""
        ends = time.monotonic() + 2.0
        while (left := ends - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        self.ended.set()
        return [GOOD]

    async def close(self) -> None:
        """Nothing to close."""


def test_a_deadline_holds_for_who_cannot_be_cancelled() -> None:
    """The attempt is on record, and what is left behind asks nothing more."""
    after = ScriptedModel("b", [GOOD])
    policy = Policy.model_validate(ladder("s", "b"))

    async def use() -> None:
        stubborn = Stubborn()
        c = Cascade(policy, models={"s": stubborn, "b": after})
        attempts: list[Attempt] = []
        with pytest.raises(DeadlineError, match=r"s \(s\): deadline"):
            await run(c._runtime.compile("default"), Prompt.of("q"), deadline_s=0.1, attempts=attempts)
        assert not stubborn.ended.is_set()
        await stubborn.ended.wait()
        await asyncio.sleep(0.05)
        assert [a.reason for a in attempts] == ["deadline"]

    asyncio.run(use())
    assert after.calls == []


def test_gate_ends_by_the_policys_deadline() -> None:
    """An async judge that hangs is cancelled; the answer comes back, not accepted."""

    cancelled = []

    async def hang(prompt: Prompt, answer: Answer) -> float:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(answer.text)
            raise
        return 1.0

    judges.register("test-hang", lambda: judges.FunctionJudge("test-hang", hang))
    policy = Policy.model_validate(ladder({"model": "a", "judges": ["test-hang"]}, deadline_s=0.1))
    with Cascade(policy, models={"a": ScriptedModel("a", [GOOD])}) as c:
        result = c.gate("q", "51")
    assert cancelled == ["51"]
    assert (result.text, result.accepted, result.reason) == ("51", False, "deadline")


def test_a_models_own_bug_is_a_failure_of_that_model() -> None:
    """The next model is called; only the exception's class is reported, since its text may hold a key."""
    with service({"a": [KeyError("sk-secret")], "b": [GOOD]}, ladder("a", "b")) as cascade:
        result = cascade.run("q")
    assert (result.tier, result.attempts[0].reason, result.attempts[0].error) == ("b", "provider_failure", "a: KeyError")
    assert [c.fault for c in result.attempts[0].call_log] == ["a: KeyError"]


def test_a_model_of_unknown_price_is_not_asked_under_a_budget() -> None:
    """Whether the run, the policy's day or the file's has it; one that says what it costs at most is, and keeps it."""
    silent, telling = ScriptedModel("m", lambda p, r: "51"), ScriptedModel("m", [Answer("51", cost_usd=0.01)], delay_s=0.01)
    with Cascade(Policy.model_validate(ladder("m")), models={"m": silent}) as c:
        assert c.run("q").text == "51"
        with pytest.raises(PolicyError, match="price of the model m is not known"):
            c.run("q", budget_usd=1.0)
    daily = Policy.model_validate(ladder("m", budget_usd_per_day=0.05))
    with Cascade(daily, models={"m": silent}) as c, pytest.raises(PolicyError, match="max_cost_usd"):
        c.run("q")
    assert len(silent.calls) == 1

    async def many() -> list[Any]:
        async with Cascade(daily, models={"m": telling}) as c:
            return await asyncio.gather(*(c.arun("q") for _ in range(20)), return_exceptions=True)

    ended = asyncio.run(many())
    assert sum(not isinstance(e, BudgetError) for e in ended) == len(telling.calls) == 5


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_samples_asked_for_singly_are_requests_like_any_other(kind: str) -> None:
    """Each has its place, its retries and its record; what one loses the others do not."""
    under_way, most, calls = 0, 0, 0

    class Server(WireServer):
        async def _handle(self, request: Any) -> Any:
            nonlocal under_way, most, calls
            under_way, calls = under_way + 1, calls + 1
            most = max(most, under_way)
            try:
                if calls == 3:
                    self.reply = Reply({"error": {"message": "no"}}, 400)
                elif calls == 4:
                    self.reply = Reply({"error": {"message": "later"}}, 503)
                else:
                    self.reply = Reply(chat() if kind == "openai" else message(), delay_s=0.02)
                return await super()._handle(request)
            finally:
                under_way -= 1

    with Server() as server:
        spec = {
            "provider": kind,
            "base_url": server.base_url,
            "n": False,
            "price": PRICE,
            "retry": FAST,
            "max_concurrency": 2,
        }
        judged = [{"use": "self_consistency", "samples": 6, "stop_at": 1.0}]
        policy = ladder({"model": "m", "judges": judged})
        file = PolicyFile.model_validate({"models": {"m": spec}, "policies": {"default": policy}})
        with Cascade(file) as cascade:
            (attempt,) = cascade.run("q").attempts
    assert most == 2
    assert sorted((c.status or 200) for c in attempt.call_log) == [200] * (calls - 2) + [400, 503]
    assert {c.n for c in attempt.call_log} == {1}
    assert attempt.verdicts[0].details["samples"] == 5
    assert attempt.cost_usd == pytest.approx((calls - 2) * 15e-6)
