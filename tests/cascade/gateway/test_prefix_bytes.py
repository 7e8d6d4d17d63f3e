"""An agent's session of 30 turns on the wire: each request's history begins with the bytes of the one before it.

Servers reuse their caches for the longest common beginning, so that a single byte that changes there makes every turn dear.
"""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message, message_events

from .conftest import Serve

TURNS = 30
POLICIES = """
models:
  open: {{provider: openai, model: open-1, base_url: "{url}/v1", retry: {{attempts: 1}}}}
  claude: {{provider: anthropic, model: claude-1, base_url: "{url}", retry: {{attempts: 1}}}}
policies:
  open: {{tiers: [{{model: open, accept_at: 0.0, judges: [rules]}}]}}
  claude: {{tiers: [{{model: claude, accept_at: 0.0, judges: [rules]}}]}}
"""
# No alphabetical order anywhere, a number that is no integer, other scripts, an escaped separator.
PARAMETERS = {
    "type": "object",
    "required": ["path"],
    "properties": {"path": {"type": "string"}, "limit": {"type": "number"}},
}
ARGUMENTS = {"path": "src/ü 漢字 \u2028.py", "limit": 1.50, "after": None, "a": [1, {"z": True, "b": "é"}]}
SYSTEM = 'You are a "coding" agent. é ü 漢字 \u2028'
REASONS = "the parser reads a token until the input ends"


def value_bytes(raw: bytes, name: str) -> bytes:
    """The bytes of a field of the outermost object, as they were sent."""
    text = raw.decode()
    start = text.index(f'"{name}":') + len(name) + 3
    start += len(text[start:]) - len(text[start:].lstrip())
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end].encode()


def openai_reply(turn: int) -> dict[str, Any]:
    """A thought and one or two calls."""
    calls = [
        {"id": f"call_{turn}_{i}", "type": "function", "function": {"name": "Read", "arguments": json.dumps(ARGUMENTS)}}
        for i in range(1 + turn % 2)
    ]
    extra = {"reasoning_content": f"{REASONS} {turn}", "tool_calls": calls}
    return chat(None if turn % 3 else f"Step {turn}", message=extra, choice={"finish_reason": "tool_calls"})


def anthropic_reply(turn: int) -> dict[str, Any]:
    """The same in Anthropic's shape."""
    blocks: list[dict[str, Any]] = [{"type": "thinking", "thinking": f"{REASONS} {turn}", "signature": f"c2ln{turn}=="}]
    blocks += [] if turn % 3 else [{"type": "text", "text": f"Step {turn}"}]
    blocks += [
        {"type": "tool_use", "id": f"toolu_{turn}_{i}", "name": "Read", "input": ARGUMENTS} for i in range(1 + turn % 2)
    ]
    return message(*blocks, stop_reason="tool_use")


def reply(received: Received) -> Reply:
    """The provider: which turn it is follows from the history."""
    turn = sum(one["role"] == "assistant" for one in received.body["messages"])
    if "claude" in received.body["model"]:
        body = anthropic_reply(turn)
        return Reply(events=message_events(body)) if received.body.get("stream") else Reply(body)
    body = openai_reply(turn)
    return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)


def chat_session(post: Callable[..., Any], model: str) -> list[list[Any]]:
    """A client of chat completions, which sends back what it got; returns what it sent in each turn."""
    tool = {"type": "function", "function": {"name": "Read", "parameters": PARAMETERS, "description": "reads a file"}}
    history: list[Any] = [{"content": SYSTEM, "role": "system"}, {"content": "Fix the test.", "role": "user"}]
    sent = []
    for turn in range(TURNS):
        sent.append(list(history))
        body = {"messages": history, "model": model, "tools": [tool], "temperature": 0.2}
        answer = post("/v1/chat/completions", body).json()["choices"][0]["message"]
        history.append({name: value for name, value in answer.items() if value is not None})
        for call in answer["tool_calls"]:
            history.append({"tool_call_id": call["id"], "content": f"lines of turn {turn}: é", "role": "tool"})
    return sent


def messages_session(post: Callable[..., Any], model: str) -> list[list[Any]]:
    """A client of Anthropic's messages."""
    tool = {"name": "Read", "input_schema": PARAMETERS, "description": "reads a file"}
    history: list[Any] = [{"content": [{"text": "Fix the test.", "type": "text"}], "role": "user"}]
    sent = []
    for turn in range(TURNS):
        sent.append(list(history))
        system = [{"text": SYSTEM, "type": "text", "cache_control": {"type": "ephemeral"}}]
        body = {"messages": history, "system": system, "tools": [tool], "max_tokens": 500, "model": model}
        content = post("/v1/messages", body).json()["content"]
        history.append({"role": "assistant", "content": content})
        results = [
            {"tool_use_id": block["id"], "type": "tool_result", "content": f"lines of turn {turn}: é"}
            for block in content
            if block["type"] == "tool_use"
        ]
        history.append({"content": results, "role": "user"})
    return sent


def responses_session(post: Callable[..., Any], model: str) -> list[list[Any]]:
    """A client of responses, which sends back every item."""
    tool = {"type": "function", "name": "Read", "parameters": PARAMETERS, "description": "reads a file", "strict": False}
    history: list[Any] = [{"content": "Fix the test.", "role": "user"}]
    sent = []
    for turn in range(TURNS):
        sent.append(list(history))
        body = {"input": history, "instructions": SYSTEM, "model": model, "tools": [tool], "store": False}
        items = post("/v1/responses", body).json()["output"]
        history += items
        history += [
            {"call_id": item["call_id"], "type": "function_call_output", "output": f"lines of turn {turn}: é"}
            for item in items
            if item["type"] == "function_call"
        ]
    return sent


SESSIONS = {"chat": chat_session, "messages": messages_session, "responses": responses_session}


@pytest.mark.parametrize("model", ["open", "claude"])
@pytest.mark.parametrize("interface", SESSIONS)
def test_each_turn_begins_with_the_bytes_of_the_last(serve: Serve, upstream: WireServer, interface: str, model: str) -> None:
    """Of the messages, the system prompt and the tools, byte for byte, whatever interface the client and the model speak."""
    upstream.reply = reply
    gateway = serve(POLICIES.format(url=upstream.base_url))
    sent = SESSIONS[interface](gateway.post, model)
    raws = [received.raw for received in upstream.received]
    assert len(raws) == TURNS
    histories = [value_bytes(raw, "messages") for raw in raws]
    for earlier, later in pairwise(histories):
        assert later.startswith(earlier[:-1] + b","), "the history changed"
    fixed = ("tools", "system") if model == "claude" else ("tools",)
    for name in fixed:
        assert len({value_bytes(raw, name) for raw in raws}) == 1
    tools = [json.dumps(received.body["tools"]) for received in upstream.received]
    assert json.dumps(PARAMETERS) in tools[0], "the order of a schema's keys is the client's"
    if (interface, model) in (("chat", "open"), ("messages", "claude")):
        # The same interface on both sides: the keys of every message in the client's order.
        assert [json.dumps(received.body["messages"]) for received in upstream.received] == [json.dumps(one) for one in sent]


def test_what_a_client_changes_is_all_that_changes(serve: Serve, upstream: WireServer) -> None:
    """An edit in the middle of the history leaves the bytes before it as they were."""
    upstream.reply = reply
    gateway = serve(POLICIES.format(url=upstream.base_url))
    history = chat_session(gateway.post, "open")[-1]
    at = random.Random(1).randrange(10, len(history) - 5)
    changed = [*history[:at], {**history[at], "content": "another text"}, *history[at + 1 :]]
    for one in (history, changed):
        gateway.post("/v1/chat/completions", {"model": "open", "messages": one})
    before, after = (value_bytes(received.raw, "messages") for received in upstream.received[-2:])
    same = len(json.dumps(history[:at], separators=(",", ":"), ensure_ascii=False).encode()) - 1
    assert before[:same] == after[:same]
    assert before != after
