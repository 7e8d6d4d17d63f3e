"""Fields of chat completions that client libraries send beside the plain ones: alternatives, several streams, histories."""

import json
import re
from typing import Any

import pytest

from tests.cascade.gateway.conftest import Running
from tests.cascade.gateway.openai.test_chat import CALL, by_model, logged
from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message

ASK: list[Any] = [{"role": "user", "content": "What is 17 * 3?"}]


def with_alternatives(text: str, alternatives: int = 5) -> dict[str, Any]:
    """A completion with the likeliest tokens at each place."""
    tokens = re.findall(r"</?think>|.", text)
    body = chat(text, choice={"logprobs": {"content": [{"token": token, "logprob": -0.01} for token in tokens]}})
    for token in body["choices"][0]["logprobs"]["content"]:
        token["top_logprobs"] = [{"token": token["token"] + "x" * i, "logprob": -0.01 - i} for i in range(alternatives)]
    return body


@pytest.mark.parametrize("streams", [False, True])
def test_alternatives_are_returned(running: Running, upstream: WireServer, streams: bool) -> None:
    """As many as the client asks for, whole or streamed, also where a thought came first."""
    body = with_alternatives("<think>sum</think>51", 8)

    def reply(received: Received) -> Reply:
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)

    upstream.reply = reply
    with running.openai() as client:
        fields: Any = {"model": "default/premium", "messages": ASK, "logprobs": True, "top_logprobs": 7}
        if streams:
            chunks = list(client.chat.completions.create(**fields, stream=True))
            (content,) = [c.choices[0].logprobs.content for c in chunks if c.choices and c.choices[0].logprobs]  # type: ignore[union-attr]
        else:
            content = client.chat.completions.create(**fields).choices[0].logprobs.content  # type: ignore[union-attr]
    assert upstream.received[0].body["top_logprobs"] == 7
    assert content
    assert "".join(token.token for token in content) == "51"
    for token in content:
        assert [len(top.token) - len(token.token) for top in token.top_logprobs] == list(range(7))


def test_several_choices_are_streamed_side_by_side(running: Running, upstream: WireServer) -> None:
    """Each chunk names its choice; every choice ends once, has its own run, and the tokens are those of all."""
    texts = iter(["it is 51", "51 it is", "fifty one"])
    upstream.reply = lambda _: Reply(events=chat_events(chat(next(texts))))
    with running.openai() as client:
        stream = client.chat.completions.create(
            model="default/premium", messages=ASK, n=3, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    written = dict.fromkeys(range(3), "")
    ends, runs = [], set()
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        written[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends.append(choice.index)
            runs.add(chunk.model_extra["cascade"]["run_id"])  # type: ignore[index]
    assert sorted(written.values()) == ["51 it is", "fifty one", "it is 51"]
    assert (sorted(ends), len(runs), len({chunk.id for chunk in chunks})) == ([0, 1, 2], 3, 1)
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (30, 15)


def test_a_failed_choice_ends_the_stream_with_its_error(running: Running, upstream: WireServer) -> None:
    """A stream of which one choice failed is never taken for whole."""
    replies = iter([Reply(events=chat_events(chat("51"))), Reply({"error": {"message": "down"}}, status=500)])
    upstream.reply = lambda _: next(replies)
    response = running.chat(model="default/premium", n=2, stream=True)
    assert "error" in response.text
    assert "[DONE]" not in response.text


def test_fields_without_effect_are_listed(running: Running, upstream: WireServer) -> None:
    """Whatever they say; their plain values ask for nothing. None of them reaches a model."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    fields = {
        "store": True, "service_tier": "flex", "prediction": {"type": "content", "content": "50"},
        "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit"}, "user": "u" * 300,
        "metadata": {"team": "search", "note": "n" * 500}, "stream_options": None,
    }  # fmt: skip
    done = running.chat(**fields).json()
    assert done["cascade"]["ignored"] == [
        *("metadata.note", "prediction", "prompt_cache_options", "prompt_cache_retention", "service_tier", "store", "user"),
    ]
    assert not fields.keys() & upstream.received[0].body.keys()
    plain = running.chat(store=False, service_tier="auto", modalities=["text"], top_logprobs=0).json()
    assert "ignored" not in plain["cascade"]


def test_hints_for_openai_are_listed_where_anthropic_answers(running: Running, upstream: WireServer) -> None:
    """OpenAI's models receive them."""
    hints = {"reasoning_effort": "low", "verbosity": "low", "prompt_cache_key": "k", "safety_identifier": "s"}
    upstream.reply = Reply(message())
    done = running.chat(model="claude", max_tokens=9, **hints).json()
    assert done["cascade"]["ignored"] == sorted(hints)
    assert not {*hints, "openai"} & upstream.received[-1].body.keys()
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    assert "ignored" not in running.chat(**hints).json()["cascade"]
    assert upstream.received[-1].body.items() >= hints.items()


def test_a_history_of_any_server_is_accepted(running: Running, upstream: WireServer) -> None:
    """Fields that servers and libraries add; arguments as an object; a call's foreign fields go back as they came."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    function = {"name": "weather", "arguments": {"city": "Ulm"}}
    call = {**CALL, "index": 0, "function": function, "extra_content": {"google": {"thought_signature": "s"}}}
    history = [
        *ASK,
        {
            "role": "assistant", "content": "I look.", "refusal": None, "audio": None, "function_call": None,
            "tool_calls": [], "annotations": [{"type": "url_citation"}], "reasoning_details": [{"text": "x"}],
            "provider_specific_fields": {}, "parsed": {"a": 1}, "id": "msg_1",
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": "rain"},
    ]  # fmt: skip
    done = running.chat(messages=history).json()
    ignored = ["messages.annotations", "messages.id", "messages.parsed", "messages.reasoning_details"]
    assert done["cascade"]["ignored"] == ignored
    sent = upstream.received[0].body["messages"]
    assert sent[1] == {"role": "assistant", "content": "I look."}
    assert sent[2]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "s"}}
    assert sent[2]["tool_calls"][0]["function"]["arguments"] == '{"city": "Ulm"}'
    assert sent[3] == {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


@pytest.mark.parametrize("model", ["default", "claude"])
def test_any_field_of_an_assistants_message_is_listed(running: Running, upstream: WireServer, model: str) -> None:
    """No client is refused for what the server that wrote an answer put into it; no other model is sent it."""
    upstream.reply = by_model(logged("51", -0.01), chat("never")) if model == "default" else Reply(message())
    answered = {
        "role": "assistant",
        "content": "x",
        "created_at": 1,
        "phase": "final",
        "executed_tools": [],
        "prefix": False,
    }
    done = running.chat(model=model, messages=[*ASK, answered, *ASK]).json()
    names = ("created_at", "executed_tools", "phase", "prefix")
    assert done["cascade"]["ignored"] == [f"messages.assistant.{name}" for name in names]
    assert not set(names) & set(json.dumps(upstream.received[0].body).split('"'))


def test_breakpoints_of_the_cache_reach_anthropic(running: Running, upstream: WireServer) -> None:
    """In parts of a chat completion, as several client libraries send them; other models are called without."""
    part = {"type": "text", "text": "Long rules.", "cache_control": {"type": "ephemeral"}}
    history = [{"role": "system", "content": [part]}, {"role": "user", "content": [part]}]
    upstream.reply = Reply(message())
    assert "ignored" not in running.chat(model="claude", max_tokens=9, messages=history).json()["cascade"]
    sent = upstream.received[-1].body
    assert (sent["system"], sent["messages"][0]["content"]) == ([part], [part])
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    assert running.chat(messages=history).json()["cascade"]["ignored"] == ["cache_control"]
    assert "cache_control" not in str(upstream.received[-1].body)
