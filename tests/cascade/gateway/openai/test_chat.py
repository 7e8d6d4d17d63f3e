"""Chat completions: OpenAI's own client against the running gateway, the wire server behind it."""

import json
import time
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import Received, Reply, WireServer, chat, chat_events

ASK: list[Any] = [{"role": "user", "content": "What is 17 * 3?"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}


def logged(text: str, logprob: float, **more: Any) -> dict[str, Any]:
    """A completion whose tokens are as likely as ``logprob`` says."""
    content = [{"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}]
    return chat(text, choice={"logprobs": {"content": content}, **more})


def by_model(small: Any, large: Any) -> Any:
    """What the wire server says, by the model that is asked; streamed where that is asked for."""

    def reply(received: Received) -> Reply:
        body = small if received.body["model"] == "small-1" else large
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)

    return reply


def test_a_plain_completion(running: Running, upstream: WireServer) -> None:
    """An answer that is sure enough comes from the cheap tier, and the response describes the run."""
    upstream.reply = by_model(logged("51", -0.01), chat("never asked"))
    with running.openai() as client:
        raw = client.chat.completions.with_raw_response.create(model="default", messages=ASK)
    done = raw.parse()
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == ("51", "stop")
    assert (done.model, done.object) == ("small-1", "chat.completion")
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (10, 5, 15)
    message = done.model_extra["cascade"]  # type: ignore[index]
    assert (message["accepted"], message["tier"], message["policy"], message["reason"]) == (
        True,
        "cheap",
        "default",
        "accepted",
    )
    assert message["cost_usd"] == pytest.approx(2e-5)
    assert raw.headers["x-cascade-run-id"] == message["run_id"]
    assert raw.headers["x-cascade-accepted"] == "true"
    assert raw.headers["x-cascade-tier"] == "cheap"
    assert float(raw.headers["x-cascade-cost-usd"]) == pytest.approx(2e-5)
    assert float(raw.headers["x-cascade-confidence"]) == pytest.approx(message["confidence"], rel=1e-5)


def test_an_unsure_answer_escalates(running: Running, upstream: WireServer) -> None:
    """The client sees the better tier's answer and that two were asked."""
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    with running.openai() as client:
        done = client.chat.completions.create(model="default", messages=ASK)
    assert done.choices[0].message.content == "51"
    message = done.model_extra["cascade"]  # type: ignore[index]
    assert [a["tier"] for a in message["attempts"]] == ["cheap", "premium"]
    assert message["cost_usd"] == pytest.approx(2e-5 + 2e-4)


def test_what_the_client_sets_reaches_the_provider(running: Running, upstream: WireServer) -> None:
    """Every tier is asked in the client's way."""
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    with running.openai() as client:
        client.chat.completions.create(
            model="default", messages=ASK, stop=["\n"], seed=7, temperature=0.2, max_completion_tokens=9, top_p=0.5,
            presence_penalty=0.1, frequency_penalty=0.2, logit_bias={"5": 1}, reasoning_effort="low", user="ana",
            metadata={"team": "a"},
        )  # fmt: skip
    assert [r.body["model"] for r in upstream.received] == ["small-1", "large-1"]
    for received in upstream.received:
        sent = received.body
        assert (sent["stop"], sent["seed"], sent["temperature"], sent["max_tokens"]) == (["\n"], 7, 0.2, 9)
        assert (sent["top_p"], sent["presence_penalty"], sent["frequency_penalty"]) == (0.5, 0.1, 0.2)
        assert (sent["logit_bias"], sent["reasoning_effort"]) == ({"5": 1}, "low")
        assert not {"user", "metadata"} & sent.keys()


def test_a_tier_alone(running: Running, upstream: WireServer) -> None:
    """``policy/tier`` selects one tier."""
    upstream.reply = by_model(chat("never"), chat("51"))
    with running.openai() as client:
        done = client.chat.completions.create(model="default/premium", messages=ASK)
    assert (done.model, [r.body["model"] for r in upstream.received]) == ("large-1", ["large-1"])


def test_images_pass_through(running: Running, upstream: WireServer) -> None:
    """As OpenAI's client sends them."""
    upstream.reply = by_model(logged("a cat", -0.01), chat("never"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    with running.openai() as client:
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": content}])  # type: ignore[list-item, misc]
    assert upstream.received[0].body["messages"] == [{"role": "user", "content": content}]


def test_tools_and_their_calls(running: Running, upstream: WireServer) -> None:
    """A call is returned, and a conversation that continues with its result is accepted."""
    called = chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"})
    upstream.reply = by_model(chat("never"), called)
    with running.openai() as client:
        done = client.chat.completions.create(
            model="default/premium", messages=ASK, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
        )
        message = done.choices[0].message
        assert done.choices[0].finish_reason == "tool_calls"
        assert message.content is None
        assert message.tool_calls is not None
        assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Ulm"}  # type: ignore[union-attr]
        assert upstream.received[0].body["tools"] == [TOOL]
        assert upstream.received[0].body["tool_choice"] == "required"
        assert upstream.received[0].body["parallel_tool_calls"] is False
        upstream.reply = by_model(chat("never"), chat("rain"))
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        client.chat.completions.create(
            model="default/premium", messages=[*ASK, message.to_dict(), result], tools=[TOOL]  # type: ignore[list-item]
        )  # fmt: skip
    sent = upstream.received[1].body["messages"]
    assert sent[1] == {"role": "assistant", "tool_calls": [CALL]}
    assert sent[2] == result


class Order(BaseModel):
    """A schema as users of the client write one."""

    item: str
    count: int


def test_a_schema_is_judged(running: Running, upstream: WireServer) -> None:
    """What breaks the schema is vetoed, and the client's ``parse`` works on what does not."""
    upstream.reply = by_model(logged('{"item": "mug"}', -0.01), chat('{"item": "mug", "count": 3}'))
    with running.openai() as client:
        done = client.chat.completions.parse(model="default", messages=ASK, response_format=Order)
    assert done.choices[0].message.parsed == Order(item="mug", count=3)
    message = done.model_extra["cascade"]  # type: ignore[index]
    assert [a["reason"] for a in message["attempts"]] == ["vetoed", "last_tier"]
    schema = upstream.received[0].body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["item", "count"]


def test_a_json_object(running: Running, upstream: WireServer) -> None:
    """The older mode is passed on as it is, and judged, too."""
    upstream.reply = by_model(logged("[1]", -0.01), chat('{"a": 1}'))
    done = running.chat(response_format={"type": "json_object"}).json()
    assert done["choices"][0]["message"]["content"] == '{"a": 1}'
    assert upstream.received[0].body["response_format"] == {"type": "json_object"}


def test_several_choices(running: Running, upstream: WireServer) -> None:
    """Each is a run of its own, judged by itself, with another seed."""
    upstream.reply = by_model(logged("51", -0.01), chat("51!"))
    done = running.chat(n=3, seed=5).json()
    assert [c["index"] for c in done["choices"]] == [0, 1, 2]
    assert sorted(r.body["seed"] for r in upstream.received) == [5, 6, 7]
    assert len({message["run_id"] for message in done["cascade"]["choices"]}) == 3
    assert done["cascade"]["cost_usd"] == pytest.approx(6e-5)
    assert done["usage"]["completion_tokens"] == 15


def test_logprobs(running: Running, upstream: WireServer) -> None:
    """The tokens come where they are asked for, and only then."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    assert running.chat().json()["choices"][0]["logprobs"] is None
    (token,) = running.chat(logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert token == {"token": "51", "logprob": -0.01, "bytes": [53, 49], "top_logprobs": []}


def test_a_stream(running: Running, upstream: WireServer) -> None:
    """The held answer arrives in its pieces, then the run, then the usage."""
    upstream.reply = by_model(logged("perhaps 50 or so", -3.0), chat("it is 51"))
    with running.openai() as client:
        chunks = list(
            client.chat.completions.create(
                model="default", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        )
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == "it is 51"
    assert len([t for t in texts if t]) == 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({c.id for c in chunks}) == 1
    assert chunks[-1].usage is not None
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 15)
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].model_extra["cascade"]["tier"] == "premium"  # type: ignore[index]


def test_a_stream_of_tool_calls(running: Running, upstream: WireServer) -> None:
    """The client's own helper puts them together."""
    upstream.reply = by_model(
        chat("never"), chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"})
    )
    with (
        running.openai() as client,
        client.chat.completions.stream(model="default/premium", messages=ASK, tools=[TOOL]) as events,
    ):
        done = events.get_final_completion()
    calls = done.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == '{"city": "Ulm"}'
    assert done.choices[0].finish_reason == "tool_calls"


def test_a_stream_without_an_answer_is_an_error_with_its_status(running: Running, upstream: WireServer) -> None:
    """As long as nothing was sent, the client's usual exception is raised."""
    upstream.reply = Reply({"error": {"message": "down"}}, status=500)
    with running.openai() as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="default", messages=ASK, stream=True)
    assert raised.value.status_code == 502


POLICY_LIVE = """
models: {{m: {{provider: openai, model: m, base_url: "{url}/v1", retry: {{attempts: 1}}}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0.0}}]}}}}
"""


def test_a_cut_stream_is_an_error(serve: Serve, upstream: WireServer) -> None:
    """Text that was sent live and is void now is never the end of a good answer."""
    live = serve(POLICY_LIVE.format(url=upstream.base_url))
    upstream.reply = Reply(events=chat_events(chat("one two three four")), reset_after=4, gap_s=0.05)
    with live.openai() as client:
        chunks = client.chat.completions.create(model="default", messages=ASK, stream=True)
        assert next(chunks).choices[0].delta.role == "assistant"
        assert next(chunks).choices[0].delta.content == "one"
        with pytest.raises(openai.APIError, match="was cut off"):
            list(chunks)


def test_leaving_cancels_what_was_asked(running: Running, upstream: WireServer) -> None:
    """A client that goes away in the middle, streaming or not, stops the request upstream."""
    words = chat("word " * 200)
    for stream in (True, False):
        upstream.left.clear()
        upstream.reply = Reply(events=chat_events(words), gap_s=0.05)
        if not stream:
            upstream.reply = Reply(words, delay_s=15)
        body = {"model": "default/premium", "messages": ASK, "stream": stream}
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"{running.url}/v1/chat/completions", json=body, timeout=0.6)
        if stream:
            assert upstream.left.wait(20)
        ends = time.monotonic() + 20
        while running.gateway.load.requests and time.monotonic() < ends:
            time.sleep(0.05)
        assert running.gateway.load.requests == 0
        assert running.gateway.active.in_flight == 0


def test_models_are_policies(running: Running) -> None:
    """Each policy and each tier of it can be named."""
    with running.openai() as client:
        names = [m.id for m in client.models.list()]
        assert {"default", "default/cheap", "default/premium", "claude"} <= set(names)
        assert client.models.retrieve("default/cheap").id == "default/cheap"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4")


def test_abstaining_is_said(running: Running, upstream: WireServer) -> None:
    """No answer is null with the reason in its place, never an empty answer."""
    upstream.reply = by_model(logged("50?", -3.0), chat("never"))
    message = running.chat(model="careful").json()["choices"][0]["message"]
    assert message["content"] is None
    assert "unsure" in message["refusal"]
    refused = running.chat(model="strict")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "not_accepted")


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"temperature": 3}, "temperature", "from 0 to 2"),
        ({"temperature": True}, "temperature", "a number"),
        ({"max_tokens": 0}, "max_tokens", "whole number"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens", "newer name"),
        ({"n": 99}, "n", "from 1 to 8"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "needs stream"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "from 0 to 20"),
        ({"tool_choice": "auto"}, "tool_choice", "needs tools"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom", "unknown field"),
        ({"functions": []}, "functions", "send tools"),
        ({"function_call": "auto"}, "function_call", "send tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities", "answers are text"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "audio is not supported"),
        ({"web_search_options": {}}, "web_search_options", "offer it as a tool"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio", "send its transcript"),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "messages[0].function_call", "tool_calls"),
        ({"messages": []}, "messages", "is missing"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "one of"),
        ({"messages": [{"role": "user", "content": "x", "mood": 1}]}, "messages[0].mood", "unknown field"),
        ({"messages": [{"role": "assistant", "content": "x", "prefix": True}]}, "messages[0].prefix", "unknown field"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type", "one of"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "required"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
         "response_format.json_schema.schema", "not a JSON Schema"),
        ({"model": "claude", "seed": 1}, "seed", "'claude' of policy 'claude' does not support"),
        ({"model": "claude", "temperature": 1.5}, "temperature", "does not support"),
        ({"model": "claude", "logprobs": True}, "logprobs", "does not support"),
        ({"model": "claude", "response_format": {"type": "json_object"}}, "response_format.type", "does not support"),
        ({"cascade": {"budgets": 1}}, "cascade.budgets", "unknown field"),
        ({"metadata": {"a": 1}}, "metadata.a", "a string"),
        ({"stop": ["a"] * 5}, "stop", "one to four"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_said(running: Running, fields: dict[str, Any], param: str, message: str) -> None:
    """A 400 that names the field, in OpenAI's shape; nothing is dropped silently."""
    refused = running.chat(**fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert message in error["message"]


def test_a_schema_that_nobody_would_heed(serve: Serve, upstream: WireServer) -> None:
    """A model without schema support, and no judge that checks it: refused."""
    text = POLICY_LIVE.format(url=upstream.base_url).replace("provider: openai", "provider: openai, structured: 'off'")
    refused = serve(text).chat(response_format={"type": "json_schema", "json_schema": {"schema": {}}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")


def test_what_went_wrong_here_is_not_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Neither to the client nor in the log's words, which could quote the prompt; the place is in the log."""
    running = serve("models: {m: {provider: scripted, answers: [x]}}\npolicies: {default: {tiers: [{model: m}]}}")

    def broken(*_: object, **__: object) -> None:
        raise KeyError("".join(("of the pro", "mpt")))

    running.gateway.active.cascade.arun = broken  # type: ignore[method-assign, assignment]
    for stream in (False, True):
        refused = running.chat(stream=stream)
        assert (refused.status_code, refused.json()["error"]["code"]) == (500, "internal")
        assert "of the prompt" not in refused.text + caplog.text
    assert "KeyError" in caplog.text
    assert "run_request.py" in caplog.text


def test_an_unknown_policy_is_not_found(running: Running) -> None:
    """With the name that was meant."""
    with running.openai() as client, pytest.raises(openai.NotFoundError, match="did you mean 'default'"):
        client.chat.completions.create(model="defualt", messages=ASK)


@pytest.mark.parametrize(("status", "message"), [(400, 400), (422, 400), (429, 429), (401, 502), (500, 502), (503, 502)])
def test_faults_upstream(running: Running, upstream: WireServer, status: int, message: int) -> None:
    """Errors that the client can correct keep their status; the provider's faults are 502. Its key is not shown."""
    upstream.reply = Reply({"error": {"message": "no, sk-secret-0123456789"}}, status=status)
    refused = running.chat(model="default/premium")
    assert refused.status_code == message
    assert "sk-secret" not in refused.text
    assert refused.json()["error"]["cascade"]["run_id"]


def test_a_clients_limits_only_lower_the_policys(running: Running, upstream: WireServer) -> None:
    """A budget that allows nothing is a 429 that is not retried; a deadline ends the run."""
    upstream.reply = by_model(logged("51", -0.01), chat("51"))
    refused = running.chat(cascade={"budget_usd": 0.0})
    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "false")
    assert refused.json()["error"]["code"] == "insufficient_quota"
    upstream.reply = Reply(chat("late"), delay_s=5)
    began = time.monotonic()
    assert running.chat(cascade={"deadline_s": 0.2}).status_code == 504
    assert time.monotonic() - began < 2


def test_no_json_no_answer(running: Running, serve: Serve) -> None:
    """A body that is not a JSON object, or has a key twice, or is nested too deep, is refused."""
    for content, reply in (
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"model": "a", "model": "b"}', "uplicate"),
        (b'{"a": ' + b"[" * 10_000, "not valid JSON"),
        (b'{"temperature": NaN}', "not valid JSON"),
        (b"\xff", "not valid JSON"),
    ):
        refused = httpx2.post(
            f"{running.url}/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert refused.status_code == 400
        assert reply in refused.json()["error"]["message"]
    deep: Any = {"type": "object"}
    for _ in range(80):
        deep = {"properties": {"a": deep}}
    refused = running.chat(response_format={"type": "json_schema", "json_schema": {"schema": deep}})
    assert "nested deeper than 64" in refused.json()["error"]["message"]


def test_unknown_paths_and_methods(running: Running) -> None:
    """In OpenAI's shape, too."""
    assert running.post("/v1/nothing", {}).json()["error"]["code"] == "not_found"
    assert httpx2.get(f"{running.url}/v1/chat/completions").status_code == 405


def test_a_temperature_that_the_model_does_not_take(running: Running, upstream: WireServer) -> None:
    """It is left out from the first error 400 on, and listed."""

    def reply(received: Received) -> Reply:
        words = "Unsupported value: 'temperature' does not support 0.2 with this model."
        return Reply({"error": {"message": words}}, status=400) if "temperature" in received.body else Reply(chat("51"))

    upstream.reply = reply
    for _ in range(2):
        done = running.chat(model="default/premium", temperature=0.2).json()
        assert done["choices"][0]["message"]["content"] == "51"
        assert done["cascade"]["ignored"] == ["temperature"]
    assert "ignored" not in running.chat(model="default/premium").json()["cascade"]
    assert ["temperature" in r.body for r in upstream.received] == [True, False, False, False]


def test_strict_is_passed_on(running: Running, upstream: WireServer) -> None:
    """As the client says it; the answer is checked in any case."""
    upstream.reply = Reply(chat('{"item": "pen"}'))
    schema = {
        "type": "object",
        "properties": {"item": {"type": "string"}},
        "required": ["item"],
        "additionalProperties": False,
    }
    for strict in (False, True):
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": strict}}
        running.chat(model="default/premium", response_format=format)
        assert upstream.received[-1].body["response_format"]["json_schema"]["strict"] is strict


def test_a_silent_stream_is_kept_alive(running: Running, upstream: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments while the model is silent, none while it is not; the answer and the end follow as ever."""
    monkeypatch.setattr("cascade.gateway.stream._KEEP_ALIVE_S", 0.1)
    upstream.reply = Reply(events=chat_events(chat("one two")), gap_s=0.25)
    slow = running.chat(model="default/premium", stream=True).text
    assert slow.count(": waiting") >= 2
    assert slow.endswith("data: [DONE]\n\n")
    monkeypatch.setattr("cascade.gateway.stream._KEEP_ALIVE_S", 10.0)
    upstream.reply = Reply(events=chat_events(chat("one two")))
    assert ": waiting" not in running.chat(model="default/premium", stream=True).text
