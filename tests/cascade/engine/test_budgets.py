"""Budgets of whole runs: never exceeded, not starved, and no cover for a provider's failure."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade import Answer, BudgetError, Cascade, ProviderError, Usage
from cascade.costs.output_lengths import OutputLengths
from cascade.costs.overruns import Overruns
from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import PolicyFile
from judges import Prompt


class Provider:
    """A model whose answers have so many tokens, cut at ``max_tokens`` unless it is dishonest."""

    def __init__(self, name: str = "m", tokens: Sequence[int] = (100,), **how: Any) -> None:
        self.name, self.tokens, self.how = name, tokens, how
        self.limits: list[int | None] = []
        self.billed = 0.0
        self.now = self.most = 0

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """See Model."""
        length = self.tokens[len(self.limits) % len(self.tokens)]
        self.limits.append(request.max_tokens)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.how.get("delay_s", 0.0))
        self.now -= 1
        if (error := self.how.get("error")) is not None:
            raise error
        if not self.how.get("dishonest"):
            length = min(length, request.max_tokens or length)
        usage = Usage(self.how.get("read", 10), length)
        self.billed += (usage.input_tokens + 4 * usage.output_tokens) * 0.15e-6
        return [Answer("hi", finish_reason="stop", usage=usage, model=self.name)]

    async def close(self) -> None:
        """See Model."""


def cascade(*providers: Provider, **policy: Any) -> Cascade:
    """A policy with a tier for each, at the prices of a small model; that of ``strong`` is ten times as high."""
    prices = {p.name: {"input_per_mtok": 0.15, "output_per_mtok": 6.0 if p.name == "strong" else 0.6} for p in providers}
    retry = {"attempts": 2, "initial_backoff_s": 0}
    tiers = [{"name": p.name, "model": p.name, "accept_at": 0} for p in providers]
    models = {name: {"provider": "openai", "price": price, "retry": retry} for name, price in prices.items()}
    file = PolicyFile.model_validate({"models": models, "policies": {"default": {"tiers": tiers, **policy}}})
    return Cascade(file, models={p.name: p for p in providers})


def together(service: Cascade, runs: int, at_once: int | None = None, **options: Any) -> list[Any]:
    """The outcomes of runs, all at once unless ``at_once`` says how many."""

    async def go() -> list[Any]:
        gate = asyncio.Semaphore(at_once or runs)

        async def one() -> Any:
            async with gate:
                return await service.arun("hi", **options)

        async with service:
            return await asyncio.gather(*(one() for _ in range(runs)), return_exceptions=True)

    return asyncio.run(go())


def answered(outcomes: list[Any]) -> int:
    """How many have an answer; the others must have ended by their budget."""
    assert all(isinstance(o, BudgetError) for o in outcomes if isinstance(o, BaseException)), outcomes
    return sum(not isinstance(o, BaseException) for o in outcomes)


def test_a_history_in_any_field_keeps_the_budget() -> None:
    """Thirty requests at once, whose history holds a megabyte in the field of a refusal."""
    provider = Provider(read=250_000)
    service = cascade(provider, budget_usd_per_day=0.6)
    history = [{"role": "assistant", "content": None, "refusal": "a" * 1_000_000}, {"role": "user", "content": "hi"}]

    async def go() -> None:
        async with service:
            await asyncio.gather(*(service.arun(history) for _ in range(30)), return_exceptions=True)

    asyncio.run(go())
    assert 0 < provider.billed <= 0.6


@pytest.mark.parametrize("at_once", [1, 61])
def test_a_small_budget_is_not_starved_by_the_longest_answers(at_once: int, caplog: pytest.LogCaptureFixture) -> None:
    """61 requests of which each could have 4,096 tokens and has 30: they wait for each other, and are then sent shorter."""
    provider = Provider(tokens=[30], delay_s=0.001)
    service = cascade(provider, budget_usd_per_day=0.004)
    assert answered(together(service, 61, at_once)) == 61
    assert provider.billed <= 0.004


def test_most_of_a_budget_can_be_spent(caplog: pytest.LogCaptureFixture) -> None:
    """Until only a usual answer's cost is left; the log says once what starves."""
    provider = Provider(tokens=[30, 40, 20], delay_s=0.001)
    service = cascade(provider, budget_usd_per_day=0.004)
    with caplog.at_level(logging.WARNING):
        outcomes = together(service, 400, 20)
    assert 0 < answered(outcomes) < 400
    assert 0.95 * 0.004 < provider.billed <= 0.004
    assert set(provider.limits[-20:]) == {64}
    assert caplog.text.count("m: a request reserves") == 1


def test_what_a_request_asks_for_is_never_cut() -> None:
    """Its own max_tokens is reserved whole, or it is not sent."""
    provider = Provider(tokens=[30])
    service = cascade(provider, budget_usd_per_day=0.004)
    outcomes = together(service, 300, 1, request=Request(max_tokens=2000))
    assert 0 < answered(outcomes) < 300
    assert set(provider.limits) == {2000}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 6000), min_size=1, max_size=30), st.floats(0.0005, 0.02), st.integers(1, 16), st.integers(1, 40)
)
def test_no_honest_answers_exceed_a_budget(tokens: list[int], usd: float, at_once: int, runs: int) -> None:
    """Whatever lengths they have, and however many are requested at once."""
    provider = Provider(tokens=tokens)
    answered(together(cascade(provider, budget_usd_per_day=usd), runs, at_once))
    assert provider.billed <= usd + 1e-12


def test_a_provider_that_counts_too_much_exceeds_a_budget_once(caplog: pytest.LogCaptureFixture) -> None:
    """Its estimates are raised by the first count, so that the next request fits or is not sent."""
    provider = Provider(tokens=[16_000], dishonest=True)
    service = cascade(provider, budget_usd_per_day=0.05)
    outcomes = together(service, 60, 1)
    assert answered(outcomes) < 60
    assert provider.billed <= 0.05
    assert caplog.text.count("m: the provider counts more than the request could have") == 1
    assert "11904 tokens of output beyond it" in caplog.text


@pytest.mark.parametrize("in_flight", [1, 4, 12])
def test_a_provider_that_counts_too_much_while_others_are_in_flight(in_flight: int) -> None:
    """What was sent before its first count may exceed the budget; what is sent later reserves what those lack."""
    limit, excess = 0.02, 10_000  # tokens of output; 0.006 USD

    all_sent, all_came = asyncio.Event(), asyncio.Event()

    class Dishonest(Provider):
        async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
            number = len(self.limits) + 1
            answers = await super().answer(prompt, request)
            if number == in_flight:
                all_sent.set()
            await (all_sent if number == 1 else all_came).wait()
            return answers

    provider = Dishonest(tokens=[excess], dishonest=True)
    service = cascade(provider, budget_usd_per_day=limit)

    async def go() -> None:
        async def one() -> None:
            with suppress(BudgetError):
                await service.arun("hi", request=Request(max_tokens=500))

        async with service:
            runs = [asyncio.ensure_future(one()) for _ in range(in_flight)]
            await runs[0]  # which has told the count
            runs += [asyncio.ensure_future(one()) for _ in range(30)]
            await asyncio.sleep(0.03)
            all_came.set()
            await asyncio.gather(*runs)

    asyncio.run(go())
    before_count = in_flight * (10 + 4 * excess) * 0.15e-6
    assert provider.billed <= max(limit, before_count) + 1e-12


def test_what_was_exceeded_long_ago_is_forgotten() -> None:
    """One wrong count does not raise the estimates permanently."""
    seen, most = Overruns(name="m"), Usage(2000, 100)
    seen.observe(most, Usage(4000, 150), 0.1)
    assert seen.raised(Usage(10_000, 10)) == Usage(20_001, 60)
    for _ in range(500):
        seen.observe(most, Usage(10, 10), 0.1)
    assert seen.raised(most) == most
    seen.observe(most, None, 0.1, stated_usd=0.3)
    assert seen.usd_ratio == pytest.approx(3.0)


@given(st.lists(st.integers(0, 10_000), max_size=300))
def test_the_usual_length_is_above_nearly_all(lengths: list[int]) -> None:
    """And unknown as long as there are few."""
    learned = OutputLengths()
    for length in lengths:
        learned.add("m", length, None)
    usual = learned.usual("m")
    if len(lengths) < 20:
        assert usual is None
    else:
        assert usual is not None
        assert sum(n > usual for n in lengths[-256:]) <= 3


@pytest.mark.parametrize("at_once", [1, 61])
@pytest.mark.parametrize("usd", [0.004, 0.002])
def test_a_tier_whose_longest_answer_never_fits_is_asked_all_the_same(usd: float, at_once: int) -> None:
    """4,096 tokens of the strong model cost six times the budget; its answers are as short as those of the weak one."""
    numbers: list[int] = []
    while len(numbers) < 3 and max(numbers, default=0) < 3:  # how many come before the budget is spent is up to the machine
        weak, strong = Provider("weak", tokens=[20], delay_s=0.001), Provider("strong", tokens=[30], delay_s=0.001)
        tiers = [{"name": name, "model": name, "accept_at": 0.9} for name in ("weak", "strong")]
        outcomes = together(cascade(weak, strong, budget_usd_per_day=usd, tiers=tiers), 61, at_once)
        costs = [o.cost_usd for o in outcomes if not isinstance(o, BaseException)]
        assert all(cost is not None for cost in costs)
        assert 0.5 * usd < sum(costs) <= usd
        numbers.append(len(strong.limits))
    assert max(numbers) >= 3


def test_a_first_guess_rises_where_answers_are_cut_and_follows_the_other_models() -> None:
    """1,024 tokens where nothing is known; cut answers count twice; else eight times what the policy's models say."""
    learned = OutputLengths()
    assert learned.guess("m") == 1024
    learned.add("m", 1024, 1024)
    assert learned.guess("m") == 3072
    for length in (20, 30, 40):
        learned.add("other", length, None)
    assert (learned.guess("third"), learned.guess("m")) == (320, 3072)
    assert learned.usual("third") is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModelError("a: HTTP 401: bad key", model="a", status=401, usage=Usage()), "a: HTTP 401: bad key"),
        (ModelError("a: HTTP 404: no model", model="a", status=404, usage=Usage()), "a: HTTP 404: no model"),
        (ModelError("a: no connection", model="a", retryable=True, usage=Usage()), "a: no connection"),
    ],
)
@pytest.mark.parametrize("limit", [{"budget_usd": 0.005}, {"max_calls": 1}])
def test_a_failure_is_not_hidden_by_the_limit_that_follows(error: ModelError, text: str, limit: dict[str, Any]) -> None:
    """The error says which tier failed with what, and which was not called for want of money."""
    (outcome,) = together(cascade(Provider("a", error=error), Provider("strong"), **limit), 1)
    assert isinstance(outcome, ProviderError)
    assert text in str(outcome)
    assert "strong (strong): stopped before the call: " in str(outcome)
