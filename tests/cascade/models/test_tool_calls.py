"""Tool calls as servers send them, and as they go back to a server in a history."""

import asyncio
import json
import re
from typing import Any

import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.message_parts import outgoing
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from judges import Answer, Prompt
from judges.reading import read_answer, read_tool_calls
from tests.wire_server import Reply, WireServer, chat, sse

ID = re.compile(r"[A-Za-z0-9_-]{9,}")
F = {"name": "f", "arguments": '{"x": 1}'}


def streamed(server: WireServer, *deltas: Any) -> tuple[Any, ...]:
    """The calls of an answer that is streamed as these deltas of tool calls."""
    end = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    server.reply = Reply(events=sse(*({"choices": [{"delta": {"tool_calls": [d]}}]} for d in deltas), end, "[DONE]"))

    async def go() -> Any:
        model = OpenAIModel(name="m", model="m", base_url=f"{server.base_url}/v1")
        chunks = [chunk async for chunk in model.stream(Prompt.of("hi"), Request())]
        await model.close()
        return chunks

    chunks = asyncio.run(go())
    calls: dict[int, str] = {}
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        calls[piece["index"]] = calls.get(piece["index"], "") + (piece.get("function", {}).get("arguments") or "")
    whole: tuple[Any, ...] = chunks[-1].answer.tool_calls
    assert [json.loads(text or "{}") for text in calls.values()] == [json.loads(c["function"]["arguments"]) for c in whole]
    return whole


def received(server: WireServer, calls: Any, **message: Any) -> Answer:
    """An answer in one piece with these calls."""
    server.reply = Reply(chat(None, message={"tool_calls": calls, **message}, choice={"finish_reason": "tool_calls"}))

    async def go() -> Any:
        model = OpenAIModel(name="m", model="m", base_url=f"{server.base_url}/v1")
        try:
            (answer,) = await model.answer(Prompt.of("hi"), Request())
        finally:
            await model.close()
        return answer

    answer: Answer = asyncio.run(go())
    return answer


@pytest.mark.parametrize("id", [None, "", 5])
def test_a_call_without_an_id_gets_one(server: WireServer, id: Any) -> None:
    """Two calls without one have different ones, in a stream, too."""
    one, two = received(server, [{"id": id, "function": F}, {"id": id, "type": "function", "function": F}]).tool_calls
    assert one["id"] != two["id"]
    assert ID.fullmatch(one["id"])
    assert one["type"] == two["type"] == "function"
    one, two = streamed(server, {"index": 0, "id": id, "function": F}, {"index": 1, "id": id, "function": F})
    assert one["id"] != two["id"]


def test_an_id_that_stands_twice_is_replaced(server: WireServer) -> None:
    """The first call keeps it, since each result names one call."""
    one, two = received(server, [{"id": "c", "function": F}, {"id": "c", "function": F}]).tool_calls
    assert one["id"] == "c"
    assert ID.fullmatch(two["id"])
    calls = streamed(server, {"index": 0, "id": "c", "function": F}, {"index": 1, "id": "c", "function": F})
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    ("sent", "text"),
    [({"x": 1}, '{"x": 1}'), ({}, "{}"), (None, "{}"), ("", "{}"), ('{"x": 1}', '{"x": 1}'), ([1], "[1]"), ('{"x', '{"x')],
)
def test_arguments_are_text(server: WireServer, sent: Any, text: str) -> None:
    """An object becomes its JSON; what is not JSON stays as it is, for the judge to see."""
    call = {"id": "c", "function": {"name": "f", "arguments": sent}}
    assert received(server, [call]).tool_calls[0]["function"]["arguments"] == text
    if text.startswith("{") and text.endswith("}"):
        assert streamed(server, {"index": 0, **call})[0]["function"]["arguments"] == text


def test_several_calls_with_one_index_and_no_ids(server: WireServer) -> None:
    """What follows whole arguments under a name of its own is another call."""
    pieces = [{"index": 0, "function": F}, {"index": 0, "function": {"name": "g", "arguments": "{}"}}]
    assert [c["function"]["name"] for c in streamed(server, *pieces)] == ["f", "g"]
    pieces = [{"index": 0, "id": "", "function": {"name": "f", "arguments": '{"x"'}},
              {"index": 0, "id": "", "function": {"name": "f", "arguments": ": 1}"}}]  # fmt: skip
    assert [c["function"] for c in streamed(server, *pieces)] == [F]


def test_foreign_fields_stay(server: WireServer) -> None:
    """A signature travels back to the server that gave it, wherever in the stream it arrived."""
    extra = {"extra_content": {"google": {"thought_signature": "abc=="}}}
    assert received(server, [{"id": "c", "type": "function", "function": F, **extra}]).tool_calls[0]["extra_content"]
    (call,) = streamed(server, {"index": 0, "id": "c", "function": F}, {"index": 0, **extra})
    assert call["extra_content"] == extra["extra_content"]
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    gemini = "https://generativelanguage.googleapis.com/v1beta/openai"
    assert outgoing(history, gemini)[1]["tool_calls"][0]["extra_content"] == extra["extra_content"]
    for strict in (None, "https://api.groq.com/openai/v1"):
        assert outgoing(history, strict)[1]["tool_calls"] == [{"id": "c", "type": "function", "function": F}]


@pytest.mark.parametrize("empty", [None, []])
def test_no_calls(server: WireServer, empty: Any) -> None:
    """An empty list means nothing, in an answer and in a history."""
    assert received(server, empty, content="Hi.").tool_calls == ()
    message = {"role": "assistant", "content": "Hi.", "tool_calls": empty}
    assert outgoing([message], None) == ({"role": "assistant", "content": "Hi."},)


@pytest.mark.parametrize("calls", [{"id": "c"}, "f()", [5], [{"id": "c"}], [{"function": {"name": 5}}]])
def test_what_is_no_call_is_malformed(server: WireServer, calls: Any) -> None:
    """A provider's fault, which is tried again."""
    with pytest.raises(ModelError, match="malformed"):
        received(server, calls)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [('{"x": 1}', {"x": 1}), ('{"x": ', {"arguments": '{"x": '}), ("", {}), (None, {}), ({"x": 1}, {"x": 1}),
     ("[1]", {"arguments": "[1]"}), ("none", {"arguments": "none"})],
)  # fmt: skip
def test_arguments_of_a_history(arguments: Any, sent: dict[str, Any]) -> None:
    """Servers read them as JSON, and Anthropic takes an object only: broken ones do not end the conversation."""
    call = {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": arguments}}
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]},
               {"role": "tool", "tool_call_id": "functions.f:0", "content": "1", "name": "f"}]  # fmt: skip
    prompt = Prompt.of(history)
    (call_sent,) = OpenAIModel(name="m", model="m").body(prompt, Request())["messages"][1]["tool_calls"]
    assert json.loads(call_sent["function"]["arguments"]) == sent
    messages = AnthropicModel(name="m", model="m").body(prompt, Request())["messages"]
    assert messages[1]["content"] == [{"type": "tool_use", "id": "functions_f_0", "name": "f", "input": sent}]
    assert messages[2]["content"] == [{"type": "tool_result", "tool_use_id": "functions_f_0", "content": "1"}]


def test_a_history_in_order_is_sent_as_it_is() -> None:
    """The very same bytes, since a provider's cache compares them."""
    call = {"id": "c", "type": "function", "function": F}
    history = ({"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]})
    assert outgoing(history, None)[1] is history[1]


@pytest.mark.parametrize(
    ("base_url", "role"),
    [(None, "developer"), ("https://x.openai.azure.com/openai/v1", "developer"), ("http://localhost:8000/v1", "system")],
)
def test_the_role_developer(base_url: str | None, role: str) -> None:
    """It is 'system' to servers that do not know it, in one message with the one before it."""
    developer = {"role": "developer", "content": "Be brief."}
    prompt = Prompt.of([developer, {"role": "user", "content": "hi"}], system="You are kind.")
    sent = [m["content"] for m in outgoing(prompt.messages, base_url) if m["role"] in ("system", "developer")]
    assert sent == (["You are kind.", "Be brief."] if role == "developer" else ["You are kind.\n\nBe brief."])
    assert outgoing([developer], base_url)[0]["role"] == role


def test_recorded_calls_are_read_alike() -> None:
    """Also in the short shape of some logs; what is in order is the same object."""
    answer = Answer("", tool_calls=({"name": "f", "arguments": {"x": 1}},))
    (call,) = read_answer(answer).tool_calls
    assert call["function"] == F
    whole = ({"id": "c", "type": "function", "function": F},)
    assert read_tool_calls(whole)[0] is whole[0]


def test_the_prompts_tool_choice_is_sent() -> None:
    """In each provider's words; the request's own goes before it."""
    prompt = Prompt.of("hi", tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required")
    assert OpenAIModel(name="m", model="m").body(prompt, Request())["tool_choice"] == "required"
    assert AnthropicModel(name="m", model="m").body(prompt, Request())["tool_choice"] == {"type": "any"}
    request = Request(options={"tool_choice": "none"})
    assert OpenAIModel(name="m", model="m").body(prompt, request)["tool_choice"] == "none"
    assert AnthropicModel(name="m", model="m").body(prompt, request)["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize("streams", [False, True])
def test_the_obsolete_function_call_is_a_call(server: WireServer, streams: bool) -> None:
    """Older servers still send it, whole or in pieces."""
    if streams:
        deltas = [
            {"function_call": {"name": "f", "arguments": ""}},
            *({"function_call": {"arguments": a}} for a in ('{"x"', ": 1}")),
        ]
        end = {"choices": [{"delta": {}, "finish_reason": "function_call"}]}
        server.reply = Reply(events=sse(*({"choices": [{"delta": delta}]} for delta in deltas), end, "[DONE]"))
    else:
        message = {"function_call": F, "tool_calls": None}
        server.reply = Reply(chat(None, message=message, choice={"finish_reason": "function_call"}))

    async def go() -> Any:
        model = OpenAIModel(name="m", model="m", base_url=f"{server.base_url}/v1")
        try:
            if streams:
                return [chunk async for chunk in model.stream(Prompt.of("hi"), Request())][-1].answer
            return (await model.answer(Prompt.of("hi"), Request()))[0]
        finally:
            await model.close()

    answer = asyncio.run(go())
    [call] = answer.tool_calls
    assert (call["function"], call["type"], answer.finish_reason) == (F, "function", "tool_calls")
    assert ID.fullmatch(call["id"])
    assert "index" not in call
