"""Tool calls through the gateway, in both interfaces: judged, and in the shapes that clients send back."""

import json
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Running
from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message, message_events

ASK = [{"role": "user", "content": "Weather?"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
CLAUDE_TOOL = {"name": "weather", "input_schema": WEATHER}


def call(name: str = "weather", arguments: Any = '{"city": "Ulm"}', **more: Any) -> dict[str, Any]:
    """A call as a server sends it."""
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def logged(calls: list[Any], text: str | None = None, reason: str = "tool_calls") -> dict[str, Any]:
    """An answer of calls whose tokens are certain, so that the cheap tier accepts it."""
    logprobs = {"content": [{"token": "x", "logprob": -0.001}]}
    return chat(text, message={"tool_calls": calls}, choice={"finish_reason": reason, "logprobs": logprobs})


def by_model(small: Any, large: Any) -> Any:
    """What the two tiers answer, streamed where that is asked for."""

    def reply(received: Received) -> Reply:
        body = small if received.body["model"] == "small-1" else large
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)

    return reply


def messages(running: Running, **fields: Any) -> Any:
    """One request by Anthropic's interface."""
    body = {"model": "default", "max_tokens": 50, "messages": ASK, "tools": [CLAUDE_TOOL], **fields}
    return running.post("/v1/messages", body)


WRONG = [
    ([call("wether")], {}),
    ([call(arguments='{"city": "Par')], {}),
    ([call(arguments="{}")], {}),
    ([call(arguments='{"city": 5}')], {}),
    ([call(), call(id="c2")], {"parallel_tool_calls": False}),
    ([call()], {"tool_choice": "none"}),
    ([], {"tool_choice": "required"}),
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_call_escalates(running: Running, upstream: WireServer, stream: bool) -> None:
    """In chat completions, whole and streamed."""
    for calls, fields in WRONG:
        good = [] if fields.get("tool_choice") == "none" else [call()]
        upstream.reply = by_model(logged(calls, "x"), logged(good, "y"))
        response = running.chat(tools=[TOOL], stream=stream, **fields)
        if not stream:
            done = response.json()
        else:
            events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
            done = next(event for event in events if "cascade" in event)
            returned = [c for e in events for choice in e["choices"] for c in choice["delta"].get("tool_calls", ())]
            assert [c["function"]["name"] for c in returned] == [c["function"]["name"] for c in good]
        assert (done["cascade"]["tier"], done["cascade"]["reason"]) == ("premium", "last_tier"), (calls, fields)


def test_a_wrong_call_escalates_in_messages(running: Running, upstream: WireServer) -> None:
    """In Anthropic's interface, by its own words for ``tool_choice``."""
    single = {"type": "auto", "disable_parallel_tool_use": True}
    for calls, choice in (
        ([call("wether")], None), ([call(arguments="{")], None), ([], {"type": "any"}), ([call()], {"type": "none"}),
        ([], {"type": "tool", "name": "weather"}), ([call(), call(id="c2")], single),
    ):  # fmt: skip
        good = [] if choice == {"type": "none"} else [call()]
        upstream.reply = by_model(logged(calls, "x"), logged(good, "y"))
        done = messages(running, **({"tool_choice": choice} if choice else {})).json()
        assert (done["cascade"]["tier"], done["cascade"]["reason"]) == ("premium", "last_tier"), (calls, choice)
        assert done["stop_reason"] == ("tool_use" if good else "end_turn")


def test_stop_reason_of_a_call(running: Running, upstream: WireServer) -> None:
    """``tool_use``, whatever the server called it, whole and streamed."""
    for reason in ("stop", "tool_calls", "function_call", "eos", "a new word"):
        upstream.reply = by_model(chat("never"), logged([call()], None, reason))
        assert messages(running, model="default/premium").json()["stop_reason"] == "tool_use"
        streamed = messages(running, model="default/premium", stream=True).text
        assert '"stop_reason":"tool_use"' in streamed
        done = running.chat(model="default/premium", tools=[TOOL]).json()
        assert done["choices"][0]["finish_reason"] == "tool_calls"


ARGUMENTS: list[Any] = ['{"city": "Ulm"}', '{"city": "Ul', "", None, {"city": "Ulm"}, "[]", "not JSON", '"text"', "null"]


@pytest.mark.parametrize("policy", ["default/premium", "claude"])
def test_a_history_of_any_arguments(running: Running, upstream: WireServer, policy: str) -> None:
    """It reaches every kind of tier as an object."""
    upstream.reply = lambda r: Reply(message() if "claude" in r.path else chat("rain"))
    for arguments in ARGUMENTS:
        _history_of(running, upstream, arguments, policy)


def _history_of(running: Running, upstream: WireServer, arguments: Any, policy: str) -> None:
    history = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call(arguments=arguments)]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
    ]
    response = running.chat(model=policy, messages=history, tools=[TOOL])
    assert response.status_code == 200, response.text
    sent = upstream.received[-1].body["messages"]
    if policy == "claude":
        assert isinstance(sent[1]["content"][0]["input"], dict)
    else:
        assert isinstance(json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]), dict)
        assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}


def test_what_means_nothing_changes_nothing(running: Running, upstream: WireServer) -> None:
    """An empty list of calls, a name on a tool's result, null ids, an SDK's own fields."""
    upstream.reply = lambda r: Reply(message() if "claude" in r.path else chat("rain"))
    parsed = {"name": "weather", "arguments": "{}", "parsed_arguments": {}}
    history = [
        *ASK,
        {"role": "assistant", "content": "Hm.", "tool_calls": []},
        {"role": "user", "content": "And?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "", "type": "function", "index": 0, "function": parsed}],
        },
        {"role": "tool", "tool_call_id": "", "name": "weather", "content": "rain"},
    ]
    for policy in ("default/premium", "claude"):
        response = running.chat(model=policy, messages=history, tools=[TOOL])
        assert response.status_code == 200, response.text
        assert "ignored" not in response.json()["cascade"] or response.json()["cascade"]["ignored"] == []
    sent = upstream.received[0].body["messages"]
    assert sent[1] == {"role": "assistant", "content": "Hm."}
    (sent_call,) = sent[3]["tool_calls"]
    assert sent_call == {"id": sent_call["id"], "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert sent_call["id"]
    assert sent[4]["tool_call_id"] == sent_call["id"]


def test_foreign_fields_travel_back(running: Running, upstream: WireServer) -> None:
    """As they came to the server that wrote them; a model that would refuse them is called without, which is listed."""
    extra = {"extra_content": {"google": {"thought_signature": "abc=="}}}
    upstream.reply = by_model(chat("never"), logged([call(**extra)]))
    done = running.chat(model="default/premium", tools=[TOOL]).json()["choices"][0]["message"]
    assert done["tool_calls"] == [call(**extra)]
    history = [*ASK, done, {"role": "tool", "tool_call_id": "c1", "content": "rain"}]
    running.chat(model="default/premium", messages=history, tools=[TOOL])
    assert upstream.received[-1].body["messages"][1]["tool_calls"] == [call(**extra)]
    upstream.reply = Reply(message())
    response = running.chat(model="claude", messages=history, tools=[TOOL])
    assert response.json()["cascade"]["ignored"] == ["messages.tool_calls.extra_content"]


def test_a_claude_tier_is_judged(running: Running, upstream: WireServer) -> None:
    """Its calls, too, whole and streamed."""
    wrong = message({"type": "tool_use", "id": "t", "name": "wether", "input": {}}, stop_reason="tool_use")
    right = message({"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Ulm"}}, stop_reason="tool_use")
    for body, reason in ((wrong, "vetoed"), (right, "last_tier")):
        upstream.reply = lambda r, body=body: Reply(events=message_events(body)) if r.body.get("stream") else Reply(body)
        assert running.chat(model="claude", tools=[TOOL]).json()["cascade"]["reason"] == reason
        assert f'"reason":"{reason}"' in running.chat(model="claude", tools=[TOOL], stream=True).text


def test_the_gate_judges_calls(running: Running) -> None:
    """An answer of calls alone; by the tools and the tool choice that were sent along."""
    body = {"prompt": "Weather?", "policy": "claude", "tools": [TOOL], "tool_calls": [call()]}
    assert running.post("/v1/gate", body).json()["reason"] == "unjudged"
    assert running.post("/v1/gate", {**body, "tool_choice": "none"}).json()["reason"] == "vetoed"
    assert running.post("/v1/gate", {**body, "tool_calls": [call("wether")]}).json()["reason"] == "vetoed"
    response = running.post("/v1/gate", {**body, "tool_calls": []})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "answer")


def test_a_hostile_tool_schema_holds_nothing_up(running: Running, upstream: WireServer) -> None:
    """It is validated in a process that can be killed, and what cannot be validated is vetoed."""
    options = [{"type": "object", "properties": {"x": {"$ref": "#/$defs/t"}}, "required": [f"y{i}"]} for i in range(3)]
    schema = {"$defs": {"t": {"anyOf": options}}, "$ref": "#/$defs/t"}
    deep: Any = 0
    for _ in range(60):
        deep = {"x": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    upstream.reply = by_model(chat("never"), logged([call("f", json.dumps(deep))]))
    response = running.chat(model="default/premium", tools=[tool])
    assert response.json()["cascade"]["reason"] == "vetoed"
