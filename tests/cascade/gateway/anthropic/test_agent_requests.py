"""Requests as coding agents send them: betas, breakpoints of the cache, thinking, media in tool results, counts."""

import json
from typing import Any

import httpx2
import pytest

from tests.cascade.gateway.anthropic.test_messages import ASK, TOOL
from tests.cascade.gateway.conftest import Running
from tests.cascade.gateway.openai.test_chat import by_model
from tests.wire_server import Reply, WireServer, chat, message, message_events

CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
PDF = {"type": "document", "title": "plan.pdf",
       "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}  # fmt: skip
NOTE = {"type": "document", "title": "Note", "context": "by hand", "citations": {"enabled": True},
        "source": {"type": "text", "media_type": "text/plain", "data": "rain at noon"}}  # fmt: skip
THOUGHT = {"type": "thinking", "thinking": "Look first.", "signature": "c2lnbmVk"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}}
WEATHER = {"type": "text", "text": "Weather?", **CACHED}
SEE = [{"type": "text", "text": "see"}, PNG, NOTE]
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "text", "text": "<env>linux</env>"}, WEATHER]},
    {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "I look."}, USE]},
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": SEE, **CACHED},
            {"type": "text", "text": "<reminder>be brief</reminder>"},
        ],
    },
    {"role": "system", "content": "The mode is: plan."},
    {"role": "user", "content": "Go on."},
]  # fmt: skip
BODY: dict[str, Any] = {
    "max_tokens": 32000,
    "system": [{"type": "text", "text": "You are an agent."}, {"type": "text", "text": "Rules: ...", **CACHED}],
    "messages": HISTORY,
    "tools": [{**TOOL, "eager_input_streaming": True}, {**TOOL, "name": "read", **CACHED}],
    "thinking": {"type": "enabled", "budget_tokens": 31999},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "metadata": {"user_id": "u" * 300},
    "temperature": 1,
}
BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,context-1m-2025-08-07,oauth-2025-04-20"


def post(running: Running, model: str, **fields: Any) -> httpx2.Response:
    """A message as an agent sends it."""
    headers = {"anthropic-beta": BETAS, "anthropic-version": "2023-06-01"}
    return running.post("/v1/messages?beta=true", {"model": model, **BODY, **fields}, headers=headers)


def test_anthropic_receives_what_the_client_sent(running: Running, upstream: WireServer) -> None:
    """Every block with its breakpoints, in its order; thinking and its settings; the betas that promise nothing new."""
    upstream.reply = Reply(message())
    done = post(running, "claude").json()
    received = upstream.received[0]
    for name in ("system", "messages", "tools", "thinking", "context_management", "max_tokens", "output_config"):
        assert received.body[name] == BODY[name], name
    assert received.body["temperature"] == 1
    assert received.headers["anthropic-beta"] == "claude-code-20250219,interleaved-thinking-2025-05-14"
    ignored = ["anthropic-beta: context-1m-2025-08-07", "anthropic-beta: oauth-2025-04-20", "metadata.user_id"]
    assert done["cascade"]["ignored"] == ignored


def test_other_models_receive_a_translation(running: Running, upstream: WireServer) -> None:
    """Fields that only Anthropic has are listed as ignored; a tool's images are in a separate message after its result."""
    upstream.reply = by_model(chat("never"), chat("rain"))
    done = post(running, "default/premium").json()
    sent = upstream.received[0].body
    assert [m["role"] for m in sent["messages"]] == [
        *("system", "user", "assistant", "tool", "user", "system", "user"),
    ]
    assert sent["messages"][0]["content"] == "You are an agent.\n\nRules: ..."
    assert sent["messages"][3]["content"].startswith("see\nNote\nby hand\nrain at noon\n[the next message shows")
    content = sent["messages"][4]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert not {"thinking", "context_management", "output_config", "anthropic", "cache_control"} & sent.keys()
    assert "cache_control" not in str(sent)
    ignored = done["cascade"]["ignored"]
    assert {"cache_control", "thinking", "context_management", "output_config.effort", "anthropic-beta"} <= set(ignored)
    assert {"tools.eager_input_streaming", "messages.content.citations", "messages.content.thinking"} <= set(ignored)


def test_a_document_is_a_file_elsewhere(running: Running, upstream: WireServer) -> None:
    """A PDF as OpenAI takes it; text as text."""
    upstream.reply = by_model(chat("never"), chat("a plan"))
    post(running, "default/premium", messages=[{"role": "user", "content": [PDF, {"type": "text", "text": "What is it?"}]}])
    parts = upstream.received[0].body["messages"][1]["content"]
    assert parts[1] == {
        "type": "file",
        "file": {"filename": "plan.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
    }


def test_empty_texts_are_dropped(running: Running, upstream: WireServer) -> None:
    """Anthropic refuses them, and its clients send them all the same."""
    upstream.reply = Reply(message())
    empty = {"type": "text", "text": ""}
    history = [
        {"role": "user", "content": [empty, {"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": [empty]},
        {"role": "assistant", "content": ""}, {"role": "user", "content": "still there?"},
    ]  # fmt: skip
    done = post(running, "claude", messages=history, system=[empty])
    assert done.status_code == 200
    sent = upstream.received[0].body
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, history[3]]
    assert "system" not in sent


@pytest.mark.parametrize("streams", [False, True])
def test_the_stop_sequence_is_returned(running: Running, upstream: WireServer, streams: bool) -> None:
    """As the provider names it."""
    body = message(stop_reason="stop_sequence", stop_sequence="END")
    upstream.reply = Reply(body)
    if streams:
        events = message_events(body)
        events[-2] = events[-2].replace(
            b'"stop_reason": "stop_sequence"', b'"stop_reason": "stop_sequence", "stop_sequence": "END"'
        )
        upstream.reply = Reply(events=events)
    with running.anthropic() as client:
        fields: Any = {"model": "claude", "max_tokens": 20, "messages": ASK, "stop_sequences": ["END"]}
        if streams:
            with client.messages.stream(**fields) as stream:
                done: Any = stream.get_final_message()
        else:
            done = client.messages.create(**fields)
    assert (done.stop_reason, done.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.parametrize("streams", [False, True])
def test_applied_edits_are_returned(running: Running, upstream: WireServer, streams: bool) -> None:
    """What Anthropic left out of the conversation, where its answers say so: in the message, or in a stream's last delta."""
    edits = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 8, "cleared_input_tokens": 50_000}]}
    body = message()
    if streams:
        events = message_events(body)
        events[-2] = events[-2].replace(b'"usage":', b'"context_management": %s, "usage":' % json.dumps(edits).encode())
        upstream.reply = Reply(events=events)
    else:
        upstream.reply = Reply({**body, "context_management": edits})
    with running.anthropic() as client:
        fields: Any = {"model": "claude", "max_tokens": 20, "messages": ASK, "betas": ["context-management-2025-06-27"]}
        fields["context_management"] = {"edits": [{"type": "clear_tool_uses_20250919"}]}
        if streams:
            with client.beta.messages.stream(**fields) as stream:
                [delta] = [event for event in stream if event.type == "message_delta"]
            done: Any = delta
        else:
            done = client.beta.messages.create(**fields)
    [edit] = done.context_management.applied_edits
    assert (edit.type, edit.cleared_tool_uses, edit.cleared_input_tokens) == ("clear_tool_uses_20250919", 8, 50_000)


def test_a_call_that_was_cut_is_not_to_be_run(running: Running, upstream: WireServer) -> None:
    """Its answer ends with ``max_tokens``, as at Anthropic; a whole one with ``tool_use``, whatever the provider's word."""
    for reason, expected in (("max_tokens", "max_tokens"), ("end_turn", "tool_use"), ("tool_use", "tool_use")):
        upstream.reply = Reply(message(USE, stop_reason=reason))
        done = post(running, "claude").json()
        assert (done["stop_reason"], done["content"][0]["type"]) == (expected, "tool_use")


def test_blocks_keep_the_providers_order(running: Running, upstream: WireServer) -> None:
    """Thoughts between texts are valid in the next turn only where they were."""
    blocks = [
        THOUGHT,
        {"type": "text", "text": "One."},
        {**THOUGHT, "thinking": "Then."},
        {"type": "text", "text": "Two."},
        USE,
    ]
    upstream.reply = Reply(message(*blocks, stop_reason="tool_use"))
    assert post(running, "claude").json()["content"] == blocks


def test_the_policys_limit_bounds_thinking_as_well(running: Running, upstream: WireServer) -> None:
    """Anthropic refuses a budget of thoughts that is not below max_tokens."""
    from cascade.models.anthropic import AnthropicModel
    from cascade.models.protocol import Request
    from judges import Prompt

    model = AnthropicModel(name="m", model="m", temperature=0.0)
    options = {"anthropic": {"thinking": {"type": "enabled", "budget_tokens": 31999}}}
    body = model.body(Prompt.of("Hi"), Request(max_tokens=8000, options=options))
    assert (body["thinking"]["budget_tokens"], "temperature" in body) == (7999, False)


def test_tokens_are_counted_by_anthropic(running: Running, upstream: WireServer) -> None:
    """The count of the policy's first model that counts; nothing is generated."""
    upstream.reply = Reply({"input_tokens": 2095})
    with running.anthropic() as client:
        counted = client.beta.messages.count_tokens(
            model="claude", messages=HISTORY, system=BODY["system"], tools=BODY["tools"], betas=["token-counting-2024-11-01"]
        )  # type: ignore[call-overload]
    assert counted.input_tokens == 2095
    received = upstream.received[0]
    assert received.path == "/claude/v1/messages/count_tokens"
    assert received.body.keys() == {"model", "messages", "system", "tools"}
    assert received.body["messages"] == HISTORY


def test_tokens_are_estimated_elsewhere(running: Running, upstream: WireServer) -> None:
    """Also where Anthropic fails; the response says that the count is an estimate."""
    upstream.reply = Reply({"error": {"message": "no such route"}}, status=404)
    text = "The quick brown fox jumps over the lazy dog. " * 100  # 1001 tokens in OpenAI's vocabularies
    for model in ("default", "claude"):
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        counted = running.post("/v1/messages/count_tokens?beta=true", body).json()
        assert counted["cascade"] == {"policy": model, "estimated": True}
        assert 900 <= counted["input_tokens"] <= 1500


def test_errors_have_anthropics_shape_on_its_paths(running: Running) -> None:
    """Paths and methods that do not exist among them, and every path for Anthropic's clients."""
    version = {"anthropic-version": "2023-06-01"}
    cases = [
        ("GET", "/v1/messages", {}, 405), ("GET", "/v1/messages/batches", {}, 404), ("POST", "/v1/complete", version, 404),
        ("GET", "/v1/models/nowhere", version, 404), ("POST", "/v1/messages", {}, 415),
    ]  # fmt: skip
    for method, path, headers, status in cases:
        response = httpx2.request(method, running.url + path, headers=headers)
        assert (response.status_code, response.json()["type"]) == (status, "error"), path
        assert response.json()["error"].keys() >= {"type", "message"}
    assert "type" not in httpx2.get(f"{running.url}/v1/nowhere").json()


def test_models_in_anthropics_shape(running: Running) -> None:
    """For its clients; OpenAI's see theirs."""
    with running.anthropic() as client:
        models = list(client.models.list(limit=1000))
        assert {"default", "claude", "default/cheap"} <= {model.id for model in models}
        assert client.models.retrieve("default").display_name == "default"
        first = client.models.list(limit=2)
        assert ([len(page.data) for page in first.iter_pages()][:2], first.has_more) == ([2, 2], True)
    with running.openai() as client:
        assert client.models.retrieve("default").owned_by == "cascade"


def test_another_models_ids_are_valid_at_anthropic(running: Running, upstream: WireServer) -> None:
    """A cheap tier's call may have an id that Anthropic refuses; call and result keep the same one."""
    upstream.reply = Reply(message())
    use, result = {**USE, "id": "functions.weather:0"}, {"type": "tool_result", "tool_use_id": "functions.weather:0"}
    post(running, "claude", messages=[*ASK, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}])
    sent = upstream.received[0].body["messages"]
    assert sent[1]["content"][0]["id"] == sent[2]["content"][0]["tool_use_id"] == "functions_weather_0"
