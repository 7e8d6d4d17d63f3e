"""How a caller asks: options of one run reach every tier and its samples; a tier alone; budgets that callers share."""

import asyncio
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, ScriptedModel
from cascade.costs.budget import today
from cascade.models.anthropic import AnthropicModel
from cascade.models.protocol import Request
from cascade.policy.schema import PolicyFile
from cascade.telemetry import Telemetry
from judges import Prompt

ANSWERS = [Answer("51", finish_reason="stop", mean_logprob=-0.01, cost_usd=0.01)]
TIERS = [
    {"model": "small", "accept_at": 0.99, "judges": [{"use": "self_consistency", "samples": 2}]},
    {"model": "large", "accept_at": 0.0},
]


def service(**more: Any) -> tuple[Cascade, ScriptedModel, ScriptedModel]:
    """Two scripted tiers, of which the first is never sure."""
    small = ScriptedModel("small", ["51", "52", "53"])
    large = ScriptedModel("large", ANSWERS)
    policy = Policy.model_validate({"tiers": TIERS, **more})
    return Cascade(policy, models={"small": small, "large": large}), small, large


def test_a_request_reaches_every_tier_and_its_samples() -> None:
    """The samples of an answer are asked for as it was, but for the seed, with which they would be the same."""
    cascade, small, large = service()
    request = Request(temperature=0.2, max_tokens=7, options={"stop": ["\n"], "seed": 1})
    with cascade:
        cascade.run("q", request=request)
    first, *samples = small.calls
    assert first.request == large.calls[0].request == request
    assert samples
    for sample in samples:
        assert (sample.request.max_tokens, dict(sample.request.options)) == (7, {"stop": ["\n"]})
        assert sample.request.temperature == 0.7


def test_no_caller_gets_more_tokens_than_the_policy_gives() -> None:
    """``max_tokens`` of a model bounds what a request may ask for; less is less."""
    file = PolicyFile.model_validate(
        {
            "models": {"m": {"provider": "scripted", "answers": ["x"], "max_tokens": 50}},
            "policies": {"default": {"tiers": [{"model": "m", "accept_at": 0}]}},
        }
    )
    model = ScriptedModel("m", ["x"])
    with Cascade(file, models={"m": model}) as cascade:
        for max_tokens in (10, 100):
            cascade.run("q", request=Request(max_tokens=max_tokens))
    assert [call.request.max_tokens for call in model.calls] == [10, 50]


def test_a_tier_alone() -> None:
    """``policy/tier`` asks that tier and no other, with its judges; a wrong one names the nearest."""
    cascade, small, _ = service()
    with cascade:
        result = cascade.run("q", policy="default/large")
        assert (result.reason, result.judged) == ("last_tier", False)
        assert (result.tier, result.accepted, len(result.attempts)) == ("large", False, 1)
        assert not small.calls
        with pytest.raises(PolicyError, match="unknown tier 'larg'; did you mean 'large'"):
            cascade.run("q", policy="default/larg")


def test_a_tier_alone_spends_the_policys_day() -> None:
    """Naming a tier does not bypass the policy's budget of the day."""
    small, large = ScriptedModel("small", ["51"]), ScriptedModel("large", ANSWERS)
    policy = Policy.model_validate({"tiers": TIERS, "budget_usd_per_day": 1.0})
    for model in (small, large):
        model.max_cost_usd = 0.02
    with Cascade(policy, models={"small": small, "large": large}) as cascade:
        cascade.run("q", policy="default/large")
        assert asyncio.run(cascade.ledger.spent(f"{today()} policy default")) == pytest.approx(0.01)


def test_a_budget_beside_the_policys() -> None:
    """Runs of one scope share it; the next that does not fit is not made. It needs a known price."""
    cascade, small, _ = service()
    with cascade:
        with pytest.raises(PolicyError, match="price of the model small is not known"):
            cascade.run("q", policy="default", daily=(("key ana", 0.02),))
        small.max_cost_usd = 0.01
        assert cascade.run("q", policy="default/large", daily=(("key ana", 0.02),)).text
        assert cascade.run("q", policy="default/large", daily=(("key ana", 0.02),)).text
        with pytest.raises(Exception, match=r"budget of .* key ana"):
            cascade.run("q", policy="default/large", daily=(("key ana", 0.02),))
        assert cascade.run("q", policy="default/large", daily=(("key ben", 0.02),)).text


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"tool_choice": {"type": "tool", "name": "f"}}),
        ({"parallel_tool_calls": False}, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"parallel_tool_calls": True}, {}),
        ({"tool_choice": {"type": "any"}, "top_k": 3}, {"tool_choice": {"type": "any"}, "top_k": 3}),
    ],
)
def test_options_in_anthropics_words(options: dict[str, Any], sent: dict[str, Any]) -> None:
    """What OpenAI calls otherwise is translated; what is Anthropic's own passes through."""
    model = AnthropicModel(name="m", model="claude", api_key="x")
    body = model.body(Prompt.of("q"), Request(options=options))
    assert {k: body[k] for k in sent} == sent
    assert not {"stop", "parallel_tool_calls"} & body.keys()
    assert ("tool_choice" in body) == ("tool_choice" in sent)


def test_streamed_text_is_held_where_the_caller_cannot_take_it_back() -> None:
    """``stream`` of a run replaces the policy's."""
    cascade, _, _ = service(stream="optimistic")
    with cascade:
        names = [type(event).__name__ for event in cascade.stream("q")]
        assert "Retracted" in names
        names = [type(event).__name__ for event in cascade.stream("q", stream="held")]
        assert "Retracted" not in names


def test_each_run_is_told_of_once() -> None:
    """``on_run`` is called once for a result and once for an exception."""
    heard: list[Any] = []
    telemetry = Telemetry(on_run=lambda *run: heard.append(run))
    model = ScriptedModel("m", ["x", ValueError("no")])
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0}]})
    with Cascade(policy, models={"m": model}, telemetry=telemetry) as cascade:
        result = cascade.run("q")
        with pytest.raises(Exception, match="no tier answered"):
            cascade.run("q")
    (kind, name, _, _, outcome), (_, _, _, _, failure) = heard
    assert (kind, name, outcome) == ("run", "default", result)
    assert failure.run_id
