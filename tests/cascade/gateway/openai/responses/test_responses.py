"""Responses: OpenAI's own client against the running gateway, the wire server behind it."""

from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.cascade.gateway.conftest import Running
from tests.cascade.gateway.openai.test_chat import CALL, by_model, logged
from tests.cascade.gateway.openai.test_reasoning import REFUSAL, THINKING, THOUGHT
from tests.wire_server import Reply, WireServer, chat, message, message_events

TOOL: Any = {"type": "function", "name": "weather", "description": "of a city",
             "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}, "strict": False}  # fmt: skip
CALLED = chat(None, message={"tool_calls": [CALL]}, choice={"finish_reason": "tool_calls"})
SIGNED = {"type": "thinking", "thinking": "17 * 3 is", "signature": "c2lnbmVk"}
QUESTION = {"role": "user", "content": "17 * 3?"}
SEALED = ["reasoning.encrypted_content"]


def streamed(running: Running, **fields: Any) -> tuple[list[Any], Any]:
    """The events of a streamed response, and the response in the last one, after checking how they follow each other."""
    with running.openai() as client:
        events = list(client.responses.create(stream=True, **{"model": "default/premium", "input": "17 * 3?", **fields}))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    done = events[-1].response
    added = [event for event in events if event.type == "response.output_item.added"]
    ended = [event for event in events if event.type == "response.output_item.done"]
    assert (
        [event.output_index for event in added] == [event.output_index for event in ended] == list(range(len(done.output)))
    )
    assert [event.item for event in ended] == done.output
    assert [event.item.id for event in added] == [item.id for item in done.output]
    return events, done


def whole(running: Running, **fields: Any) -> Any:
    """The response to the same request without a stream."""
    with running.openai() as client:
        return client.responses.create(**{"model": "default/premium", "input": "17 * 3?", **fields})


def test_a_plain_response(running: Running, upstream: WireServer) -> None:
    """The text, the tokens, the fields that a response repeats, and how the answer was found."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    done = whole(
        running, model="default", instructions="Be brief.", max_output_tokens=20, temperature=0.2, metadata={"a": "b"}
    )
    assert (done.output_text, done.status, done.model, done.error) == ("51", "completed", "small-1", None)
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (10, 5, 15)
    assert (done.instructions, done.max_output_tokens, done.metadata, done.store) == ("Be brief.", 20, {"a": "b"}, False)
    assert done.cascade["accepted"] is True
    sent = upstream.received[0].body
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "17 * 3?"}]
    assert (sent["max_tokens"], sent["temperature"]) == (20, 0.2)


def test_a_stream_has_every_event(running: Running, upstream: WireServer) -> None:
    """Text in its pieces, then the whole of it in each of the events that end it."""
    upstream.reply = by_model(logged("perhaps", -3.0), chat("it is 51"))
    events, done = streamed(running, model="default")
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"), *["output_text.delta"] * 3,
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]  # fmt: skip
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "it is 51"
    assert (done.output_text, done.usage.total_tokens, done.cascade["tier"]) == ("it is 51", 15, "premium")


@pytest.mark.parametrize("how", [whole, lambda *a, **k: streamed(*a, **k)[1]], ids=["whole", "streamed"])
def test_calls_go_out_and_come_back(running: Running, upstream: WireServer, how: Any) -> None:
    """The next turn has the items as they were, with the output of the tool."""
    upstream.reply = by_model(chat("never"), CALLED)
    done = how(running, tools=[TOOL], tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=False)
    (call,) = done.output
    assert (call.type, call.name, call.arguments, call.call_id, call.status) == (
        *("function_call", "weather", CALL["function"]["arguments"], "call_1", "completed"),
    )
    sent = upstream.received[0].body
    assert sent["tools"][0] == {"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}
    assert (sent["tool_choice"]["function"]["name"], sent["parallel_tool_calls"]) == ("weather", False)
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "rain"}, image]}
    upstream.reply = by_model(chat("never"), chat("It rains."))
    history = [{"role": "user", "content": "Weather?"}, *(item.to_dict() for item in done.output), output]
    assert how(running, input=history, tools=[TOOL]).output_text == "It rains."
    sent = upstream.received[-1].body["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[1]["tool_calls"] == [CALL]
    assert sent[2]["content"].startswith("rain")
    assert sent[3]["content"][0]["image_url"]["url"].startswith("data:image/png")


def test_a_schema_is_judged_and_parsed(running: Running, upstream: WireServer) -> None:
    """By the client's own parse."""

    class Sum(BaseModel):
        answer: int

    upstream.reply = by_model(logged('{"answer": "many"}', -0.01), chat('{"answer": 51}'))
    with running.openai() as client:
        done = client.responses.parse(model="default", input="17 * 3?", text_format=Sum)
    assert done.output_parsed == Sum(answer=51)
    assert len(done.cascade["attempts"]) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [whole, lambda *a, **k: streamed(*a, **k)[1]], ids=["whole", "streamed"])
def test_thoughts_are_a_reasoning_item(running: Running, upstream: WireServer, how: Any) -> None:
    """In front of the message; a server that takes thoughts back receives them in the next turn."""
    upstream.reply = by_model(chat("never"), THINKING)
    done = how(running, reasoning={"effort": "low", "summary": "auto"})
    reasoning, answer = done.output
    assert (reasoning.type, reasoning.summary[0].text, answer.content[0].text) == ("reasoning", THOUGHT, "it is 51")
    assert upstream.received[-1].body["reasoning_effort"] == "low"
    history = [
        {"role": "user", "content": "17 * 3?"},
        *(i.to_dict() for i in done.output),
        {"role": "user", "content": "Sure?"},
    ]
    done = how(running, input=history)
    assert "ignored" not in done.cascade
    sent = upstream.received[-1].body["messages"]
    assert sent[1] == {"role": "assistant", "content": "it is 51", "reasoning_content": THOUGHT}


@pytest.mark.parametrize("streams", [False, True])
def test_anthropics_signed_thoughts_travel_sealed(running: Running, upstream: WireServer, streams: bool) -> None:
    """In encrypted_content, where the client asks for it; Anthropic receives them back as it signed them."""
    body = message(SIGNED, {"type": "text", "text": "51"})
    upstream.reply = Reply(events=message_events(body)) if streams else Reply(body)
    how = (lambda *a, **k: streamed(*a, **k)[1]) if streams else whole
    fields: Any = {"model": "claude", "max_output_tokens": 20}
    assert how(running, **fields).output[0].encrypted_content is None
    done = how(running, **fields, include=SEALED)
    history = [
        {"role": "user", "content": "17 * 3?"},
        *(i.to_dict() for i in done.output),
        {"role": "user", "content": "Sure?"},
    ]
    done = how(running, **fields, input=history)
    assert upstream.received[-1].body["messages"][1]["content"] == [SIGNED, {"type": "text", "text": "51"}]
    assert "ignored" not in done.cascade
    foreign = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    done = how(running, **fields, input=[foreign, *history])
    assert done.cascade["ignored"] == ["input.reasoning.encrypted_content"]


@pytest.mark.parametrize("how", [whole, lambda *a, **k: streamed(*a, **k)[1]], ids=["whole", "streamed"])
def test_what_is_not_whole_says_so(running: Running, upstream: WireServer, how: Any) -> None:
    """Cut, filtered, refused, abstained."""
    for word, reason in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        upstream.reply = by_model(chat("never"), chat("fif", choice={"finish_reason": word}))
        done = how(running)
        assert (done.status, done.incomplete_details.reason, done.output[0].status) == ("incomplete", reason, "incomplete")
    upstream.reply = by_model(chat("never"), REFUSAL)
    part = how(running).output[0].content[0]
    assert (part.type, part.refusal) == ("refusal", "I cannot help with that.")
    upstream.reply = by_model(logged("50?", -3.0), chat("never"))
    part = how(running, model="careful").output[0].content[0]
    assert (part.type, "unsure" in part.refusal) == ("refusal", True)


def test_logprobs_are_returned(running: Running, upstream: WireServer) -> None:
    """Where the client includes them."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    done = whole(running, model="default", include=["message.output_text.logprobs"])
    assert done.output[0].content[0].logprobs[0].logprob == -0.01


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id: the gateway keeps no responses; send the whole"),
        ({"conversation": "conv_1"}, "conversation: the gateway keeps no responses"),
        ({"background": True}, "background: the gateway answers while the client waits"),
        ({"prompt": {"id": "p"}}, "prompt: the gateway keeps no templates"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type: the gateway keeps no items; send the item"),
        ({"input": [{"type": "web_search_call", "id": "ws"}]}, "input[0].type: 'web_search_call' is not supported"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "uploaded files are not"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type: 'web_search' is not supported; only functions are"),
        ({"tool_choice": "required"}, "tool_choice: needs tools"),
        ({"input": []}, "input: is missing"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema: is missing"),
        ({"max_tokens": 5}, "max_tokens: unknown field; did you mean 'max_output_tokens'?"),
    ],
)
def test_what_cannot_be_honoured_is_said(running: Running, fields: dict[str, Any], message: str) -> None:
    """A 400 that names the field, in OpenAI's shape."""
    refused = running.post("/v1/responses", {"model": "default", "input": "Hi", **fields})
    assert refused.status_code == 400, refused.text
    assert message in refused.json()["error"]["message"]


def test_fields_without_effect_are_listed(running: Running, upstream: WireServer) -> None:
    """As in chat completions."""
    upstream.reply = by_model(logged("51", -0.01), chat("never"))
    done = whole(
        running, model="default", store=True, truncation="auto", service_tier="flex", include=["file_search_call.results"]
    )
    assert done.cascade["ignored"] == ["include: file_search_call.results", "service_tier", "store", "truncation"]
    assert "ignored" not in whole(running, model="default", store=False, truncation="disabled").cascade


def test_nothing_is_stored(running: Running) -> None:
    """A response is not found again, in words."""
    with running.openai() as client, pytest.raises(openai.NotFoundError, match="keeps no responses"):
        client.responses.retrieve("resp_1")
    assert httpx2.get(f"{running.url}/v1/responses/resp_1/input_items").status_code == 404


def test_a_stream_that_breaks_is_an_error(running: Running, upstream: WireServer) -> None:
    """Before the first event with its status; afterwards the client raises, and never takes half for the whole."""
    upstream.reply = Reply({"error": {"message": "down"}}, status=500)
    with running.openai() as client, pytest.raises(openai.InternalServerError):
        client.responses.create(model="default/premium", input="Hi", stream=True)
