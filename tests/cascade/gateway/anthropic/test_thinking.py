"""Thinking blocks and stop reasons in messages, by Anthropic's own client."""

from typing import Any

import pytest

from tests.cascade.gateway.anthropic.test_messages import ASK, TOOL
from tests.cascade.gateway.conftest import Running, Serve
from tests.cascade.gateway.openai.test_chat import CALL, by_model, logged
from tests.cascade.gateway.openai.test_reasoning import LIVE, REFUSAL, TAGGED, THINKING, THOUGHT
from tests.wire_server import Reply, WireServer, chat, message, message_events

UNSIGNED = {"type": "thinking", "thinking": THOUGHT, "signature": ""}
SIGNED = {"type": "thinking", "thinking": "17 * 3 is", "signature": "c2lnbmVk"}
REDACTED = {"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="}
TEXT = {"type": "text", "text": "it is 51"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Ulm"}}


def whole(running: Running, model: str = "default/premium", **fields: Any) -> tuple[list[Any], str | None]:
    """The blocks and the stop reason of a message, as the client reads them."""
    with running.anthropic() as client:
        done = client.messages.create(model=model, max_tokens=20, **{"messages": ASK, **fields})
    return [block.to_dict() for block in done.content], done.stop_reason


def streamed(running: Running, model: str = "default/premium") -> tuple[list[Any], str | None]:
    """The same of a stream, after checking that each block starts and stops once and none overlaps."""
    open_block, started = -1, 0
    with running.anthropic() as client, client.messages.stream(model=model, max_tokens=20, messages=ASK) as events:
        for event in events:
            if event.type == "content_block_start":
                assert (open_block, event.index) == (-1, started)
                open_block, started = event.index, started + 1
            elif event.type == "content_block_delta":
                assert event.index == open_block
            elif event.type == "content_block_stop":
                assert event.index == open_block
                open_block = -1
        done = events.get_final_message()
    assert (open_block, started) == (-1, len(done.content))
    return [{k: v for k, v in b.to_dict().items() if k != "parsed_output"} for b in done.content], done.stop_reason


@pytest.mark.parametrize("body", [THINKING, TAGGED], ids=["field", "tags"])
def test_thoughts_are_a_block_before_the_text(running: Running, serve: Serve, upstream: WireServer, body: Any) -> None:
    """Of any provider's model, without a signature; whole, in a held stream and in a live one."""
    upstream.reply = by_model(chat("never"), body)
    expected = ([UNSIGNED, TEXT], "end_turn")
    assert whole(running) == expected
    assert streamed(running) == expected
    assert streamed(serve(LIVE.format(url=upstream.base_url)), "default") == expected


@pytest.mark.parametrize("blocks", [[SIGNED, TEXT], [SIGNED, REDACTED, TEXT], [REDACTED, TEXT], [SIGNED, REDACTED, USE]])
@pytest.mark.parametrize("live", [False, True], ids=["held", "live"])
def test_anthropics_own_blocks_keep_their_signature(
    serve: Serve, upstream: WireServer, blocks: list[Any], live: bool
) -> None:
    """Redacted ones are returned, too: the next turn needs them as they were."""
    judges = "[]" if live else "[rules]"
    gateway = serve(f"""
models: {{claude: {{provider: anthropic, model: claude-1, base_url: "{upstream.base_url}", retry: {{attempts: 1}}}}}}
policies: {{claude: {{tiers: [{{model: claude, accept_at: 0.0, judges: {judges}}}]}}}}
""")
    stop = "tool_use" if USE in blocks else "end_turn"
    body = message(*blocks, stop_reason=stop)
    upstream.reply = Reply(body)
    assert whole(gateway, "claude") == (blocks, stop)
    upstream.reply = Reply(events=message_events(body))
    assert streamed(gateway, "claude") == (blocks, stop)


def test_a_rejected_tiers_thoughts_are_not_sent(running: Running, upstream: WireServer) -> None:
    """They are part of its answer."""
    unsure = logged("50?", -3.0)
    unsure["choices"][0]["message"]["reasoning_content"] = "a guess"
    upstream.reply = by_model(unsure, THINKING)
    assert streamed(running, "default")[0] == whole(running, "default")[0] == [UNSIGNED, TEXT]


def test_thoughts_in_a_history(running: Running, upstream: WireServer) -> None:
    """Anthropic receives what it signed, other servers the thoughts without a signature; the response lists the rest."""
    blocks = [UNSIGNED, SIGNED, REDACTED, TEXT, USE]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
    history: Any = [*ASK, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    fields: Any = {"max_tokens": 20, "messages": history, "tools": [TOOL]}
    upstream.reply = Reply(message())
    done = running.post("/v1/messages", {"model": "claude", **fields}).json()
    assert done["cascade"]["ignored"] == ["messages.content.thinking"]
    assert upstream.received[-1].body["messages"][1]["content"] == blocks[1:]
    upstream.reply = by_model(chat("never"), chat("rain"))
    done = running.post("/v1/messages", {"model": "default/premium", **fields}).json()
    assert done["cascade"]["ignored"] == ["messages.content.redacted_thinking", "messages.content.thinking"]
    sent = upstream.received[-1].body["messages"][1]
    assert (sent["reasoning_content"], sent["content"]) == (THOUGHT, "it is 51")
    assert sent.keys() == {"role", "content", "reasoning_content", "tool_calls"}


def test_a_message_goes_back_as_it_came(running: Running, upstream: WireServer) -> None:
    """What the gateway returned is valid history, and nothing of it is ignored where its own model answers again."""
    for model, reply in (("claude", Reply(message(SIGNED, REDACTED, TEXT))), ("default/premium", Reply(THINKING))):
        upstream.reply = reply
        blocks, _ = whole(running, model)
        history = [*ASK, {"role": "assistant", "content": blocks}, *ASK]
        done = running.post("/v1/messages", {"model": model, "max_tokens": 20, "messages": history}).json()
        assert "ignored" not in done["cascade"]


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "thinking"}, "thinking"),
        ({"type": "thinking", "thinking": 1}, "thinking"),
        ({"type": "thinking", "thinking": "x", "signature": 1}, "signature"),
        ({"type": "redacted_thinking"}, "data"),
    ],
)
def test_a_block_that_is_none(running: Running, block: dict[str, Any], param: str) -> None:
    """A 400 that names its field; users have no thoughts at all."""
    for role, where in (("assistant", f"messages[0].content[0].{param}"), ("user", "messages[0].content[0].type")):
        body = {"model": "default", "max_tokens": 20, "messages": [{"role": role, "content": [block]}]}
        refused = running.post("/v1/messages", body)
        assert refused.status_code == 400
        assert where in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("word", "calls", "expected"),
    [
        ("stop", [], "end_turn"), ("stop", [CALL], "tool_use"), ("tool_calls", [CALL], "tool_use"),
        ("tool_calls", [], "end_turn"), ("length", [], "max_tokens"), ("length", [CALL], "max_tokens"),
        ("content_filter", [], "refusal"), ("never_heard_of", [], "max_tokens"),
    ],
)  # fmt: skip
def test_stop_reasons_are_anthropics(
    running: Running, upstream: WireServer, word: str, calls: list[Any], expected: str
) -> None:
    """Whatever the provider calls them."""
    upstream.reply = by_model(chat("never"), chat("51", message={"tool_calls": calls}, choice={"finish_reason": word}))
    assert whole(running)[1] == streamed(running)[1] == expected


def test_a_refusal_stops_as_one(running: Running, upstream: WireServer) -> None:
    """OpenAI's refusal field becomes text in Anthropic's shape; Anthropic's own refusal may have no text."""
    upstream.reply = by_model(chat("never"), REFUSAL)
    expected = ([{"type": "text", "text": "I cannot help with that."}], "refusal")
    assert whole(running) == streamed(running) == expected
    body = {**message(stop_reason="refusal"), "content": []}
    upstream.reply = Reply(body)
    assert whole(running, "claude") == ([], "refusal")
    upstream.reply = Reply(events=message_events(body))
    assert streamed(running, "claude") == ([], "refusal")
