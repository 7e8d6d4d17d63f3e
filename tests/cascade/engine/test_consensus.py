"""A consensus through the engine: costs, latencies, limits, budgets, and models asked at the same time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cascade import Cascade, Policy, PolicyError
from cascade.models.protocol import ModelError, Request
from cascade.policy.load import parse
from judges import Answer, Prompt


@dataclass
class FixedModel:
    """Answers the same after a pause; an error is raised."""

    name: str
    reply: str | Exception
    pause_s: float = 0.0
    cost_usd: float = 0.001
    latency_s: float | None = None
    max_cost_usd: float | None = 0.001
    requests: list[Request] = field(default_factory=list)
    cancelled: bool = False

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        self.requests.append(request)
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.reply, Exception):
            raise self.reply
        return [Answer(self.reply, model=self.name, cost_usd=self.cost_usd, latency_s=self.latency_s)]

    async def close(self) -> None: ...


def run(models: Sequence[FixedModel], judge: dict[str, Any], accept_at: float = 0.9, **policy: Any) -> Any:
    """Runs a ladder of the first model, judged by ``judge``, and the last."""
    first, *_, last = models
    tiers = [{"model": first.name, "accept_at": accept_at, "judges": [judge]}, {"model": last.name, "accept_at": 0.0}]
    limits = {k: policy.pop(k) for k in ("budget_usd", "request") if k in policy}

    async def once() -> Any:
        async with Cascade(Policy.model_validate({"tiers": tiers, **policy}), models={m.name: m for m in models}) as service:
            return await service.arun("How many?", **limits)

    return asyncio.run(once())


def consensus(*models: str, **options: Any) -> dict[str, Any]:
    return {"use": "consensus", "models": list(models), **options}


def test_agreement_is_accepted_and_paid() -> None:
    """Both answers are paid for, the second as judging, and the expensive model is not called."""
    models = [FixedModel("a", "51"), FixedModel("b", "It is 51", cost_usd=0.002), FixedModel("dear", "51")]
    result = run(models, consensus("b"))
    assert (result.tier, result.accepted, result.cost_usd) == ("a", True, pytest.approx(0.003))
    assert result.attempts[0].judge_cost_usd == pytest.approx(0.002)
    assert not models[2].requests


def test_disagreement_escalates() -> None:
    """Two answers that differ are not sure enough."""
    result = run([FixedModel("a", "51"), FixedModel("b", "52"), FixedModel("dear", "53")], consensus("b"))
    assert (result.tier, result.text) == ("dear", "53")


def test_the_others_are_asked_as_the_model_was() -> None:
    """The caller's options go to every model."""
    models = [FixedModel("a", "5"), FixedModel("b", "5"), FixedModel("dear", "5")]
    run(models, consensus("b"), request=Request(max_tokens=77, options={"tool_choice": "auto"}))
    assert models[1].requests[0].max_tokens == 77
    assert models[1].requests[0].options == {"tool_choice": "auto"}


@pytest.mark.parametrize("parallel", [False, True])
def test_the_latency_is_that_of_the_slowest(parallel: bool) -> None:
    """One after the other the latencies add up; at the same time the slowest counts. Others are always asked at once."""
    models = [
        FixedModel("a", "5", latency_s=1.0),
        FixedModel("b", "6", latency_s=3.0),
        FixedModel("c", "7", latency_s=2.0),
        FixedModel("dear", "5", latency_s=0.0),
    ]
    result = run(models, consensus("b", "c", settle_at=3, parallel=parallel))
    assert result.attempts[0].latency_s == pytest.approx(3.0 if parallel else 4.0)


def test_parallel_models_really_run_at_the_same_time() -> None:
    """Each of three waits until the others have been asked, too."""
    together = asyncio.Barrier(3)

    class Waiting(FixedModel):
        async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
            async with asyncio.timeout(10):
                await together.wait()
            return await super().answer(prompt, request)

    models = [*(Waiting(name, "5") for name in "abc"), FixedModel("dear", "5")]
    assert run(models, consensus("b", "c", parallel=True)).accepted


@pytest.mark.parametrize("parallel", [False, True])
def test_a_model_that_fails_is_left_out(parallel: bool) -> None:
    """One vote less; without any other vote the confidence is the prior."""
    down = FixedModel("b", ModelError("b: down", model="b", retryable=False))
    models = [FixedModel("a", "5"), down, FixedModel("c", "5"), FixedModel("dear", "6")]
    assert run(models, consensus("b", "c", parallel=parallel)).tier == "a"
    models = [FixedModel("a", "5"), down, FixedModel("dear", "6")]
    assert run(models, consensus("b", parallel=parallel)).tier == "dear"


def test_early_calls_end_with_a_run_that_is_cut_short() -> None:
    """At the deadline the models that were asked early are cancelled."""
    slow = FixedModel("b", "5", pause_s=30.0)
    models = [FixedModel("a", "5", pause_s=0.01), slow, FixedModel("dear", "5")]
    with pytest.raises(Exception, match="deadline"):
        run(
            [FixedModel("a", "5", pause_s=30.0), slow, FixedModel("dear", "5")],
            consensus("b", parallel=True),
            deadline_s=0.1,
        )
    assert slow.cancelled
    result = run(models, consensus("b", parallel=True), deadline_s=0.2)
    assert (result.text, result.reason) == ("5", "deadline")


def test_a_failed_tier_ends_its_early_calls() -> None:
    """Where the tier's own model fails, the calls to the other models are cancelled."""
    slow = FixedModel("b", "5", pause_s=30.0)
    own = FixedModel("a", ModelError("a: down", model="a", retryable=False), pause_s=0.01)
    result = run([own, slow, FixedModel("dear", "6")], consensus("b", parallel=True))
    assert (result.tier, slow.cancelled) == ("dear", True)


@pytest.mark.parametrize("parallel", [False, True])
def test_the_budget_covers_the_others(parallel: bool) -> None:
    """A run may not spend more than its budget on votes."""
    models = [FixedModel("a", "5"), FixedModel("b", "5"), FixedModel("dear", "5")]
    result = run(models, consensus("b", parallel=parallel), budget_usd=0.0015)
    assert (result.accepted, result.reason) == (False, "budget")
    assert result.cost_usd <= 0.0015


FILE = """
models:
  a: {provider: scripted, answers: ["1"]}
  b: {provider: scripted, answers: ["1"]}
policies:
  default:
    tiers:
      - {model: a, judges: [{use: consensus, models: [%s]}]}
      - {model: b}
"""


def test_the_policy_file_is_checked() -> None:
    """Unknown models get a suggestion, the tier's own model is refused, and a good file runs."""
    with pytest.raises(PolicyError, match=r"unknown model 'bb'.*did you mean 'b'"):
        parse(FILE % "bb")
    with pytest.raises(PolicyError, match=r"the tier's own model"):
        parse(FILE % "a")
    with Cascade(parse(FILE % "b")) as service:
        assert service.run("1?").tier == "a"
