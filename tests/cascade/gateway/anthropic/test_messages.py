"""Messages: Anthropic's own client against the running gateway, the wire server behind it."""

import json
from typing import Any

import anthropic
import pytest

from tests.cascade.gateway.conftest import Running
from tests.cascade.gateway.openai.test_chat import CALL, by_model, logged
from tests.wire_server import Reply, WireServer, chat, message, message_events

ASK: list[Any] = [{"role": "user", "content": "What is 17 * 3?"}]
TOOL: Any = {"name": "weather", "description": "of a city", "input_schema": {"type": "object", "properties": {}}}
CALLED = chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"})


def test_a_plain_message(running: Running, upstream: WireServer) -> None:
    """Anthropic's client is answered by OpenAI's model, and the response says how."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    with running.anthropic() as client:
        raw = client.messages.with_raw_response.create(model="default", max_tokens=20, system="Be brief.", messages=ASK)
    done = raw.parse()
    assert [block.text for block in done.content if block.type == "text"] == ["51"]
    assert (done.stop_reason, done.role, done.model) == ("end_turn", "assistant", "small-1")
    assert (done.usage.input_tokens, done.usage.output_tokens) == (10, 5)
    message = done.model_extra["cascade"]  # type: ignore[index]
    assert (message["accepted"], raw.headers["x-cascade-run-id"]) == (True, message["run_id"])
    sent = upstream.received[0].body
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *ASK]
    assert sent["max_tokens"] == 20


def test_to_anthropics_own_model(running: Running, upstream: WireServer) -> None:
    """What is Anthropic's reaches Anthropic as it was."""
    upstream.reply = Reply(message())
    with running.anthropic() as client:
        client.messages.create(
            model="claude", max_tokens=20, messages=ASK, stop_sequences=["x"],
            tools=[TOOL], tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            extra_body={"top_k": 3, "top_p": 0.5, "temperature": 0.1},
        )  # fmt: skip
    sent = upstream.received[0].body
    assert (sent["stop_sequences"], sent["top_k"], sent["top_p"], sent["temperature"]) == (["x"], 3, 0.5, 0.1)
    assert sent["tools"] == [TOOL]
    assert sent["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}


def test_images_tools_and_results(running: Running, upstream: WireServer) -> None:
    """Blocks become OpenAI's parts, calls and messages of tools; a call comes back as a block."""
    upstream.reply = by_model(chat("never"), CALLED)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    with running.anthropic() as client:
        history: list[Any] = [{"role": "user", "content": [image, {"type": "text", "text": "Where is this?"}]}]
        done = client.messages.create(model="default/premium", max_tokens=20, messages=history, tools=[TOOL])
        (block,) = done.content
        assert block.type == "tool_use"
        assert (block.name, block.input, block.id, done.stop_reason) == ("weather", {"city": "Ulm"}, "call_1", "tool_use")
        result = {"type": "tool_result", "tool_use_id": block.id, "content": "no such city", "is_error": True}
        history += [{"role": "assistant", "content": [block.to_dict()]}, {"role": "user", "content": [result]}]
        client.messages.create(model="default/premium", max_tokens=20, messages=history, tools=[TOOL])
    first, second = (r.body["messages"] for r in upstream.received)
    assert first[0]["content"][0] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert json.loads(second[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Ulm"}
    assert second[2] == {"role": "tool", "tool_call_id": "call_1", "content": "Error: no such city"}


def test_a_schema_is_judged(running: Running, upstream: WireServer) -> None:
    """What breaks it escalates."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    upstream.reply = by_model(logged('{"a": "x"}', -0.01), chat('{"a": 1}'))
    body = {"model": "default", "max_tokens": 20, "messages": ASK}
    done = running.post("/v1/messages", {**body, "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    assert done.json()["content"] == [{"type": "text", "text": '{"a": 1}'}]
    assert [a["reason"] for a in done.json()["cascade"]["attempts"]] == ["vetoed", "last_tier"]


def test_a_stream(running: Running, upstream: WireServer) -> None:
    """The client's own helper puts the events together."""
    upstream.reply = by_model(logged("perhaps", -3.0), chat("it is 51"))
    with running.anthropic() as client, client.messages.stream(model="default", max_tokens=20, messages=ASK) as events:
        pieces = list(events.text_stream)
        done = events.get_final_message()
    assert pieces == ["it", " is", " 51"]
    assert done.content[0].text == "it is 51"  # type: ignore[union-attr]
    assert (done.stop_reason, done.usage.input_tokens, done.usage.output_tokens) == ("end_turn", 10, 5)


def test_a_stream_of_tool_calls(running: Running, upstream: WireServer) -> None:
    """The call's input is put together, too."""
    upstream.reply = by_model(chat("never"), CALLED)
    with (
        running.anthropic() as client,
        client.messages.stream(model="default/premium", max_tokens=20, messages=ASK, tools=[TOOL]) as events,
    ):
        done = events.get_final_message()
    (block,) = done.content
    assert block.type == "tool_use"
    assert (block.input, done.stop_reason) == ({"city": "Ulm"}, "tool_use")


def test_a_stream_from_anthropics_model(running: Running, upstream: WireServer) -> None:
    """From one wire format to the same again."""
    upstream.reply = Reply(events=message_events(message({"type": "text", "text": "it is 51"})))
    with running.anthropic() as client, client.messages.stream(model="claude", max_tokens=20, messages=ASK) as events:
        assert "".join(events.text_stream) == "it is 51"


@pytest.mark.parametrize(
    ("fields", "wording"),
    [
        ({"max_tokens": None}, "max_tokens: is missing"),
        ({"temperature": 1.5}, "temperature: must be a number from 0 to 1"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: must be a whole number"),
        ({"thinking": {"type": "often"}}, "thinking.type: must be one of enabled, adaptive"),
        ({"mcp_servers": [{"name": "files"}]}, "mcp_servers: tools that run at Anthropic are not supported"),
        ({"inference_geo": "eu"}, "inference_geo: the operator sets in the policy file"),
        ({"mcp_server": []}, "mcp_server: unknown field; did you mean 'mcp_servers'? It is rejected because"),
        ({"top_k": 3}, "top_k: the model 'small' of policy 'default' does not support"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role: must be one of user, assistant, system"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages: every message is empty"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "x", "citations": None, "cache_control": {}}]}
                ]
            },
            "messages[0].content[0].cache_control.type: is missing",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].source: is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            "messages[0].content[0].type: 'container_upload' runs at Anthropic",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]},
            "messages[0].content[0].source: files that were uploaded to the provider are not supported",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "tools[0].type: 'web_search_20250305' runs at Anthropic",
        ),
        (
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            "tools.type: the model 'small' of policy 'default' does not support it",
        ),
        (
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            "context_management.edits[0].type: 'compact_20260112' is not supported",
        ),
    ],
)
def test_what_cannot_be_honoured_is_said(running: Running, fields: dict[str, Any], wording: str) -> None:
    """A 400 in Anthropic's shape that names the field."""
    refused = running.post("/v1/messages", {"model": "default", "max_tokens": 20, "messages": ASK, **fields})
    message = refused.json()
    assert (refused.status_code, message["type"], message["error"]["type"]) == (400, "error", "invalid_request_error")
    assert wording in message["error"]["message"]


def test_errors_are_the_clients_own(running: Running, upstream: WireServer) -> None:
    """Unknown policies and faults upstream raise what Anthropic's users catch."""
    with running.anthropic() as client:
        with pytest.raises(anthropic.NotFoundError, match="did you mean 'default'"):
            client.messages.create(model="defualt", max_tokens=20, messages=ASK)
        upstream.reply = Reply({"error": {"message": "down"}}, status=500)
        with pytest.raises(anthropic.InternalServerError) as raised:
            client.messages.create(model="default", max_tokens=20, messages=ASK)
    assert raised.value.status_code == 502


def test_abstaining_is_said(running: Running, upstream: WireServer) -> None:
    """As a refusal with the reason."""
    upstream.reply = by_model(logged("50?", -3.0), chat("never"))
    done = running.post("/v1/messages", {"model": "careful", "max_tokens": 20, "messages": ASK}).json()
    assert done["stop_reason"] == "refusal"
    assert "unsure" in done["content"][0]["text"]
