"""Warnings where a provider fails and recovers, a breaker opens and closes, a judge fails."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

import cascade
import cascade.engine.attempt
from cascade.models.protocol import ModelError
from cascade.models.scripted import ScriptedModel
from cascade.resilience import breaker, failure_log
from cascade.resilience.breaker import Breaker, BreakerRule
from cascade.resilience.guard import Guard
from cascade.resilience.guarded_call import CallRejected, send_guarded
from judges import Verdict


@pytest.fixture(autouse=True)
def _first_warnings() -> Iterator[None]:
    """Every test's warnings are the first of their kind."""
    limited = (failure_log._warnings, breaker._warnings, cascade.engine.attempt._warnings)
    for log in limited:
        log._kinds.clear()
    yield
    for log in limited:
        log._kinds.clear()


def call(guard: Guard, *outcomes: ModelError | None) -> None:
    """Requests that end so, one after another."""

    async def run() -> None:
        for outcome in outcomes:

            async def send(outcome: ModelError | None = outcome) -> str:
                if outcome is not None:
                    raise outcome
                return "answer"

            with suppress(ModelError):
                await send_guarded(guard, "m", send, None)

    asyncio.run(run())


def fault(status: int | None = 503, *, retryable: bool = True) -> ModelError:
    """A provider's failure that quotes the prompt."""
    return ModelError("the prompt's words", model="m", retryable=retryable, status=status, kind="connection")


def test_a_provider_that_fails_and_recovers_is_two_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """With the status and the number of failures; the text of the error is not logged."""
    call(Guard(), *[fault()] * 7, *[None] * 6)
    assert caplog.messages[0] == 'a model\'s provider fails: model=m cause="HTTP 503" failures=1'
    assert caplog.messages[1].startswith("a model's provider answers again: model=m failures=7 seconds=")
    assert len(caplog.messages) == 2


def test_a_provider_that_fails_now_and_then_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A single success is not a recovery."""
    call(Guard(), *[fault(), None] * 200)
    assert len(caplog.messages) == 1


def test_each_cause_has_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """An outage and a wrong key are fixed by different people."""
    call(Guard(), fault(503), fault(None), fault(401, retryable=False), fault(503))
    assert [message.split("cause=")[1].split(" failures")[0] for message in caplog.messages] == [
        '"HTTP 503"',
        "connection",
        '"HTTP 401"',
    ]


@pytest.mark.parametrize("error", [fault(400, retryable=False), CallRejected("m", "no slot")])
def test_a_callers_mistake_and_our_own_limits_are_no_warnings(caplog: pytest.LogCaptureFixture, error: ModelError) -> None:
    """Neither says anything about the provider."""
    call(Guard(), error)
    assert not caplog.messages


def test_a_breaker_that_opens_and_closes_is_two_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """Reopening within a minute adds none."""
    now = [0.0]
    one = Breaker(BreakerRule(min_requests=2, cooldown_s=5), lambda: now[0], "m")
    for _ in range(2):
        one.record("pass", False)
    for success in (False, True):
        now[0] += 6
        assert one.admit() == "probe"
        one.record("probe", success)
    assert caplog.messages == [
        'a circuit breaker opened: model=m cause="2 of 2 requests failed" cooldown_s=5',
        'a circuit breaker closed: model=m cause="its probe got an answer"',
    ]


def test_a_policys_breaker_knows_its_model(caplog: pytest.LogCaptureFixture) -> None:
    """The name is the one in the policy file."""
    policy = cascade.Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.0}], "when_unsure": "best"})
    model = ScriptedModel("m", [fault()] * 200)
    with cascade.Cascade(policy, models={"m": model}) as one:
        for _ in range(20):
            with pytest.raises(cascade.ProviderError):
                one.run("q", deadline_s=0.05)
    assert any("a circuit breaker opened: model=m" in message for message in caplog.messages)


def test_a_judge_that_fails_is_one_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its class and what the policy does about it; its text is not logged."""

    async def broken(self: object, case: object) -> Verdict:
        raise ZeroDivisionError("the prompt's words")

    monkeypatch.setattr("judges.rules.RulesJudge.judge", broken)
    policy = cascade.Policy.model_validate({"tiers": [{"model": "m", "judges": ["rules"]}], "on_judge_error": "ignore"})
    with cascade.Cascade(policy, models={"m": ScriptedModel("m", ["x"] * 10)}) as one:
        for _ in range(5):
            one.run("q")
    assert caplog.messages == ["a judge failed: judge=rules tier=m error=ZeroDivisionError rule=ignore"]
