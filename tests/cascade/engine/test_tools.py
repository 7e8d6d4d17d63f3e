"""Tool calls are judged on every path: runs, streams, the gate, recordings; before the tier's own judges."""

from typing import Any

import pytest

import judges
from cascade import Answer, Cascade, Policy, Prompt, Result, ScriptedModel
from cascade.models.protocol import Request
from cascade.models.recorded import RecordedModel

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}]


def calls(name: str = "weather", arguments: Any = '{"city": "Paris"}') -> dict[str, Any]:
    """An answer of one call."""
    return {"tool_calls": ({"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}},)}


def answer(name: str = "weather", arguments: Any = '{"city": "Paris"}', text: str = "") -> Answer:
    """The same, scripted and free."""
    return Answer(text, cost_usd=0.0, finish_reason="tool_calls", **calls(name, arguments))


GOOD, BAD = answer(), answer("wether", '{"city": "Par')


def stands(result: Result) -> bool:
    """Whether no judge vetoed the answer that is returned; none of these judges scores, so that none is accepted."""
    return result.reason != "vetoed"


def ladder(*scripts: Any, judged: Any = (), **more: Any) -> Cascade:
    """A cascade whose tiers accept whatever no judge vetoes."""
    tiers = [{"model": f"m{i}", "accept_at": 0.0, "judges": list(judged)} for i in range(len(scripts))]
    models = {f"m{i}": ScriptedModel(f"m{i}", script) for i, script in enumerate(scripts)}
    return Cascade(Policy.model_validate({"tiers": tiers, **more}), models=models)


@pytest.mark.parametrize("judged", [(), ("rules",), ("schema", "rules", "logprob")])
def test_a_wrong_call_escalates(judged: Any) -> None:
    """It costs no other judge any work, and the verdict says why."""
    result = ladder([BAD], [GOOD], judged=judged).run("Weather?", tools=TOOLS)
    assert (result.tier, stands(result), result.tool_calls) == ("m1", True, GOOD.tool_calls)
    first, second = result.attempts
    assert first.vetoed
    assert first.reason == "vetoed"
    assert [(v.judge, v.veto) for v in first.verdicts] == [("tools", True)]
    assert [v.judge for v in second.verdicts] == ["tools", *judged]


def test_without_tools_nothing_is_judged() -> None:
    """A text that looks like a call is a text."""
    result = ladder([Answer("<tool_call>", cost_usd=0.0)]).run("Weather?")
    assert stands(result)
    assert result.attempts[0].verdicts == ()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_the_requests_tool_choice_is_obeyed(choice: Any) -> None:
    """A text where a call was demanded is not an answer."""
    cascade = ladder([Answer("Sunny.", cost_usd=0.0)], [GOOD])
    assert cascade.run("Weather?", tools=TOOLS).tier == "m0"
    request = Request(options={"tool_choice": choice})
    assert ladder([Answer("Sunny.", cost_usd=0.0)], [GOOD]).run("Weather?", tools=TOOLS, request=request).tier == "m1"


def test_a_stream_is_judged() -> None:
    """Held text is never sent of an answer with a wrong call."""
    cascade = ladder([answer("wether", text="Looking ...")], [answer(text="One moment.")])
    events = list(cascade.stream("Weather?", tools=TOOLS))
    assert "".join(e.text for e in events if type(e).__name__ == "Token") == "One moment."
    assert [e.verdict.veto for e in events if type(e).__name__ == "VerdictGiven"] == [True, False]


def test_the_gate_judges_calls() -> None:
    """Also by the tool choice of the prompt."""
    cascade = ladder([GOOD])
    assert stands(cascade.gate(Prompt.of("Weather?", tools=TOOLS), GOOD))
    assert not stands(cascade.gate(Prompt.of("Weather?", tools=TOOLS), BAD))
    assert not stands(cascade.gate(Prompt.of("Weather?", tools=TOOLS, tool_choice="none"), GOOD))
    as_object = answer(arguments={"city": "Paris"})
    assert cascade.gate(Prompt.of("Weather?", tools=TOOLS), as_object).tool_calls[0]["function"]["arguments"] == (
        '{"city": "Paris"}'
    )


def test_recorded_calls_are_judged() -> None:
    """The recording's tools say what may be called."""
    recorded = {"right": {"text": "", **calls()}, "wrong": {"text": "", **calls("wether")}}
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.0}]})
    cascade = Cascade(policy, models={"m": RecordedModel("m", "m", recorded)})
    for id, accepted in (("right", True), ("wrong", False)):
        assert stands(cascade.run(Prompt.of("Weather?", tools=TOOLS, id=id))) is accepted


def test_a_listed_judge_takes_the_place_of_the_default() -> None:
    """Its options hold, and it is judged once."""
    rule = {"use": "tools", "arguments": False}
    result = ladder([answer(arguments="{}")], judged=(rule,)).run("Weather?", tools=TOOLS)
    assert stands(result)
    assert [v.judge for v in result.attempts[0].verdicts] == ["tools"]


def test_an_answer_that_a_judge_puts_in_place_is_checked() -> None:
    """The calls of the answer that is returned are the ones that were judged."""

    @judges.judge("swap")
    def swap(prompt: Prompt, answer: Answer) -> judges.Verdict:
        return judges.Verdict("swap", 0.9, answer=BAD)

    try:
        result = ladder([GOOD], [GOOD], judged=("swap",), when_unsure="best").run("Weather?", tools=TOOLS)
    finally:
        judges.registry.unregister("swap")
    assert not stands(result)
    assert [(v.judge, v.veto) for v in result.attempts[0].verdicts] == [("tools", False), ("swap", False), ("tools", True)]
