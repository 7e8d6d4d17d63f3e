"""AnthropicModel: the real SDK against a real local server."""

import asyncio
from typing import Any

import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.protocol import ModelError, Request
from judges import Prompt, Usage
from tests.wire_server import Reply, WireServer, message

KEY = "sk-ant-very-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}


def ask(server: WireServer, prompt: Any = "hi", request: Request = Request(), **options: Any) -> Any:  # noqa: B008
    """One question through a fresh client."""
    if not callable(server.reply) and "choices" in (server.reply.body or {}):
        server.reply = Reply(message())

    async def go() -> Any:
        model = AnthropicModel(name="m", model="claude-x", api_key=KEY, base_url=server.base_url, **options)
        try:
            return await model.answer(prompt if isinstance(prompt, Prompt) else Prompt.of(prompt), request)
        finally:
            await model.close()

    return asyncio.run(go())


def test_plain(server: WireServer) -> None:
    """System messages move to their own field; the key travels in the header only."""
    (answer,) = ask(server, Prompt.of("hi", system="be brief"))
    assert (answer.text, answer.finish_reason, answer.logprobs) == ("hello", "stop", None)
    sent = server.received[0]
    assert sent.path == "/v1/messages"
    assert KEY in (sent.headers.get("authorization", "") + sent.headers.get("x-api-key", ""))
    assert sent.body == {
        "model": "claude-x",
        "max_tokens": 1024,
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_usage_with_cache(server: WireServer) -> None:
    """Anthropic counts cached tokens apart from the input; here they are part of it."""
    server.reply = Reply(message(usage={"cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}))
    assert ask(server)[0].usage == Usage(130, 5, cached_tokens=100, cache_write_tokens=20)


def test_schema_is_asked_for_natively(server: WireServer) -> None:
    """output_config carries the JSON Schema."""
    server.reply = Reply(message({"type": "text", "text": '{"x": 1}'}))
    ask(server, Prompt.of("q", schema=SCHEMA))
    assert server.received[0].body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


def test_tools_both_ways(server: WireServer) -> None:
    """OpenAI-shaped tools, tool calls and tool results are translated, and tool_use comes back as a tool call."""
    server.reply = Reply(message({"type": "tool_use", "id": "t2", "name": "f", "input": {"x": 2}}, stop_reason="tool_use"))
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "done"},
    ]
    (answer,) = ask(server, Prompt.of(messages, tools=tools))
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls == ({"id": "t2", "type": "function", "function": {"name": "f", "arguments": '{"x": 2}'}},)
    body = server.received[0].body
    assert body["tools"] == [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
    assert body["messages"][1]["content"] == [{"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "done"}
    assert body["messages"][2] == {"role": "user", "content": [result]}


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("data:image/png;base64,AAAA", {"type": "base64", "media_type": "image/png", "data": "AAAA"}),
        ("https://example.org/a.png", {"type": "url", "url": "https://example.org/a.png"}),
    ],
)
def test_images(server: WireServer, url: str, source: dict[str, str]) -> None:
    """An OpenAI-shaped image becomes Anthropic's."""
    ask(server, Prompt.of([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]))
    assert server.received[0].body["messages"][0]["content"] == [{"type": "image", "source": source}]


def test_samples_are_separate_requests(server: WireServer) -> None:
    """Three samples are three requests, each with its own usage."""
    answers = ask(server, request=Request(n=3, temperature=1.5))
    assert [a.usage for a in answers] == [Usage(10, 5)] * 3
    assert [r.body["temperature"] for r in server.received] == [1.0] * 3


@pytest.mark.parametrize(("stop", "word"), [("max_tokens", "length"), ("refusal", "content_filter")])
def test_stop_reasons(server: WireServer, stop: str, word: str) -> None:
    """The rules judge sees truncation and refusal in one vocabulary."""
    server.reply = Reply(message(stop_reason=stop))
    assert ask(server)[0].finish_reason == word


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_status_errors(server: WireServer, status: int) -> None:
    """One request each, no key in the error."""
    server.reply = Reply({"type": "error", "error": {"type": "x", "message": f"key {KEY}"}}, status)
    with pytest.raises(ModelError) as caught:
        ask(server)
    assert len(server.received) == 1
    assert (caught.value.status, caught.value.retryable) == (status, status in (429, 500, 529))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"<html>", b"{}", b'{"content": [{}]}', b'{"content": [], "usage": {}}', b"\xff"])
def test_malformed_bodies(server: WireServer, raw: bytes) -> None:
    """Whatever is not the protocol is the provider's fault."""
    server.reply = Reply(raw=raw)
    with pytest.raises(ModelError) as caught:
        ask(server)
    assert caught.value.retryable


def test_repr_shows_no_key() -> None:
    """Neither key nor headers."""
    assert "secret" not in repr(AnthropicModel(name="m", model="x", api_key=KEY, headers={"a": KEY}))


def test_thinking_is_not_the_answer(server: WireServer) -> None:
    """Thinking blocks are the answer's reasoning; redacted ones say nothing."""
    server.reply = Reply(
        message(
            {"type": "thinking", "thinking": "Hm.", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "42"},
        )
    )
    (answer,) = ask(server)
    assert (answer.text, answer.reasoning) == ("42", "Hm.")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("pause_turn", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("end_turn", "stop"),
    ],
)
def test_stop_reasons_in_one_vocabulary(server: WireServer, word: str, reason: str) -> None:
    """Each stop reason is read into this package's words; a refusal is one in any language."""
    server.reply = Reply(message({"type": "text", "text": "Nein."}, stop_reason=word))
    (answer,) = ask(server)
    assert (answer.finish_reason, answer.refusal) == (reason, "Nein." if word == "refusal" else None)
