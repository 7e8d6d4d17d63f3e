"""Answers that arrive piece by piece: the real SDKs against a real local server, a script, a recording."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import openai
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Chunk, ModelError, Request
from cascade.models.recorded import RecordedModel
from cascade.models.scripted import Cut, ScriptedModel
from cascade.models.sse import EventDecoder
from judges import Answer, Prompt, TokenLogprob, Usage
from judges.reading import split_reasoning
from tests.wire_server import Reply, WireServer, chat, chat_events, message, message_events, sse

KEY = "plainkey0123456789"
TEXT = "one  two\n\nthree \N{SNOWMAN} "
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1, 2]}'}}
CALLED = {"finish_reason": "tool_calls"}
USED = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": [1, 2]}}
BOTH = pytest.mark.parametrize("kind", [OpenAIModel, AnthropicModel])


def body(kind: Any, text: str = TEXT) -> dict[str, Any]:
    """A whole body of the kind's protocol."""
    return chat(text) if kind is OpenAIModel else message({"type": "text", "text": text})


def events(kind: Any, of: dict[str, Any]) -> list[bytes]:
    """The same as a stream."""
    return chat_events(of) if kind is OpenAIModel else message_events(of)


HI = Prompt.of("hi")


def streamed(
    kind: Any,
    server: WireServer,
    request: Request = Request(),  # noqa: B008
    prompt: Prompt = HI,
    **options: Any,
) -> list[Chunk]:
    """All chunks of one stream through a fresh client."""

    async def go() -> list[Chunk]:
        model = kind(name="m", model="x", api_key=KEY, base_url=server.base_url, **options)
        try:
            return [chunk async for chunk in model.stream(prompt, request)]
        finally:
            await model.close()

    return asyncio.run(go())


def whole(kind: Any, server: WireServer, request: Request = Request(), **options: Any) -> Answer:  # noqa: B008
    """The answer that came in one piece."""

    async def go() -> Answer:
        model = kind(name="m", model="x", api_key=KEY, base_url=server.base_url, **options)
        try:
            (answer,) = await model.answer(Prompt.of("hi"), request)
            return answer
        finally:
            await model.close()

    return asyncio.run(go())


LOGPROBS = [
    {"token": w, "logprob": -0.1 - i, "top_logprobs": [{"token": w, "logprob": -0.1}, {"token": "no", "logprob": -2.0}]}
    for i, w in enumerate(["one", "  two", "\n\nthree", " \N{SNOWMAN}", " "])
]


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        (OpenAIModel, chat(TEXT)),
        (OpenAIModel, chat("")),
        (OpenAIModel, chat(TEXT, choice={"logprobs": {"content": LOGPROBS}})),
        (
            OpenAIModel,
            chat(None, message={"tool_calls": [CALL, {**CALL, "id": "2"}]}, choice=CALLED),
        ),
        (OpenAIModel, chat(None, message={"refusal": "I cannot do that"})),
        (OpenAIModel, chat(TEXT, choice={"finish_reason": "length"})),
        (OpenAIModel, chat(TEXT, usage={"prompt_tokens_details": {"cached_tokens": 4}})),
        (OpenAIModel, {**chat(TEXT), "usage": None}),
        (AnthropicModel, message({"type": "text", "text": TEXT})),
        (AnthropicModel, message({"type": "text", "text": TEXT}, USED, {**USED, "id": "2", "input": {}})),
        (AnthropicModel, message({"type": "text", "text": "a"}, {"type": "text", "text": "b"}, stop_reason="max_tokens")),
        (AnthropicModel, message(USED, usage={"cache_read_input_tokens": 7}, stop_reason="tool_use")),
    ],
)
def test_the_whole_equals_what_answer_gives(server: WireServer, kind: Any, of: dict[str, Any]) -> None:
    """Text, tool calls, finish reason, log-probabilities and usage: the last chunk's answer is the unstreamed one."""
    server.reply = lambda received: Reply(events=events(kind, of)) if received.body.get("stream") else Reply(of)
    request = Request(logprobs=kind is OpenAIModel)
    chunks = streamed(kind, server, request)
    *pieces, last = chunks
    assert last.answer == whole(kind, server, request)
    assert all(piece.answer is None for piece in pieces)
    assert "".join(chunk.text for chunk in chunks) == last.answer.text
    texts: dict[int, str] = {}
    for call in (call for chunk in chunks for call in chunk.tool_calls):
        texts[call["index"]] = texts.get(call["index"], "") + call["function"]["arguments"]
    assert [json.loads(a or "{}") for a in texts.values()] == [
        json.loads(c["function"]["arguments"]) for c in last.answer.tool_calls
    ]


def test_the_request_asks_for_the_usage(server: WireServer) -> None:
    """Unless the options say that this server knows no such field."""
    server.reply = Reply(events=chat_events(chat()))
    streamed(OpenAIModel, server, Request(n=3))
    streamed(OpenAIModel, server, options={"stream_options": None})
    first, second = (received.body for received in server.received)
    assert (first["stream"], first["stream_options"]) == (True, {"include_usage": True})
    assert "n" not in first
    assert second["stream"]
    assert "stream_options" not in second


@BOTH
def test_no_usage_is_unknown(server: WireServer, kind: Any) -> None:
    """A server that does not count leaves the cost unknown, not 0; nor does the count of a message's start say anything."""
    lines = events(
        kind, {**body(kind), "usage": {"input_tokens": 3, "output_tokens": 5} if kind is AnthropicModel else None}
    )
    if kind is AnthropicModel:
        lines[-2:-1] = sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    server.reply = Reply(events=lines)
    answer = streamed(kind, server)[-1].answer
    assert answer is not None
    assert (answer.text, answer.usage) == (TEXT, None)


@BOTH
def test_a_server_that_does_not_stream(server: WireServer, kind: Any) -> None:
    """Plain JSON in reply to ``stream: true`` is one chunk."""
    server.reply = Reply(body(kind))
    (chunk,) = streamed(kind, server)
    assert chunk == Chunk(text=TEXT, answer=whole(kind, server))


@BOTH
@pytest.mark.parametrize("keep", range(12))
@pytest.mark.parametrize("how", ["ends", "reset"])
def test_a_cut_stream_is_a_fault(server: WireServer, kind: Any, keep: int, how: str) -> None:
    """Wherever it breaks, in whichever way, it is never a short success, and what it cost is unknown.

    A stream that ends in order after its finish reason is whole (see below).
    """
    lines = events(kind, body(kind))
    keep = min(keep, len(lines) - 1)
    if how == "ends" and kind is OpenAIModel:
        keep = min(keep, next(i for i, line in enumerate(lines) if b'"finish_reason": "stop"' in line))
    server.reply = Reply(events=lines[:keep]) if how == "ends" else Reply(events=lines, reset_after=keep)
    with pytest.raises(ModelError) as caught:
        streamed(kind, server)
    assert caught.value.retryable
    assert "may have been billed" in str(caught.value)
    assert caught.value.usage in (None, Usage(10, 5))
    if caught.value.usage is not None:
        assert keep == len(lines) - 1  # it broke after the count
    assert caught.value.__context__ is None


@BOTH
def test_half_an_event_is_a_cut(server: WireServer, kind: Any) -> None:
    """An event without the empty line that ends it did not arrive."""
    lines = events(kind, body(kind))
    last = next(i for i, line in enumerate(lines) if b'"finish_reason": "stop"' in line or b"message_stop" in line)
    server.reply = Reply(events=[*lines[:last], lines[last].rstrip(b"\n")])
    with pytest.raises(ModelError, match="cut"):
        streamed(kind, server)


@pytest.mark.parametrize("counted", [True, False])
def test_a_stream_without_done(server: WireServer, counted: bool) -> None:
    """What ends in order with a finish reason is whole, as some servers send no [DONE]; without one it is cut."""
    lines = events(OpenAIModel, body(OpenAIModel))[:-1]
    if not counted:
        lines = [line for line in lines if b'"usage": {' not in line]
    server.reply = Reply(events=lines)
    answer = streamed(OpenAIModel, server)[-1].answer
    assert answer is not None
    assert (answer.text, answer.finish_reason) == (TEXT, "stop")
    assert (answer.usage is None) is not counted
    server.reply = Reply(events=[line for line in lines if b'"finish_reason": "stop"' not in line])
    with pytest.raises(ModelError, match="neither finish_reason nor"):
        streamed(OpenAIModel, server)


@BOTH
def test_an_error_event(server: WireServer, kind: Any) -> None:
    """A provider that breaks off says so; secrets in what it says are redacted."""
    error_event = {"type": "error", "error": {"type": "overloaded_error", "message": f"Overloaded {KEY}"}}
    server.reply = Reply(events=[*events(kind, body(kind))[:4], *sse(error_event, event="error")])
    with pytest.raises(ModelError, match="Overloaded") as caught:
        streamed(kind, server)
    assert caught.value.retryable
    assert KEY not in str(caught.value)
    assert caught.value.usage is None


@BOTH
def test_an_error_status(server: WireServer, kind: Any) -> None:
    """A refused request says what an unstreamed one says, and cost nothing."""
    server.reply = Reply({"error": {"message": f"slow down {KEY}"}}, 429)
    with pytest.raises(ModelError, match="HTTP 429: slow down") as caught:
        streamed(kind, server)
    assert (caught.value.status, caught.value.retryable, caught.value.usage) == (429, True, Usage())
    assert KEY not in str(caught.value)


@BOTH
@pytest.mark.parametrize(
    "data",
    [b"{", b"[1]", b'{"choices": "\xff"}', b'{"choices": [1], "type": "content_block_delta"}',
     b'{"choices": [{"delta": {"tool_calls": 5}}], "type": "message_delta"}',
     b'{"choices": [{"logprobs": "5"}], "type": "content_block_start", "index": 7}'],
)  # fmt: skip
def test_malformed_events(server: WireServer, kind: Any, data: bytes) -> None:
    """Whatever is not the protocol is the provider's fault."""
    server.reply = Reply(events=[b"data: " + data + b"\n\n"])
    with pytest.raises(ModelError, match="malformed") as caught:
        streamed(kind, server)
    assert caught.value.retryable


def test_a_stream_has_a_size_limit(server: WireServer) -> None:
    """A provider that does not stop is stopped."""
    server.reply = Reply(events=chat_events(chat("word " * 2000)))
    with pytest.raises(ModelError, match="max_body_bytes"):
        streamed(OpenAIModel, server, max_body_bytes=20_000)


CLIENTS: list[Callable[[], Any] | None] = [None, openai.DefaultAsyncHttpxClient]


@BOTH
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("how", ["timeout", "cancelled", "closed"])
def test_leaving_closes_the_connection(server: WireServer, kind: Any, client: Any, how: str) -> None:
    """The timeout bounds the whole stream, not the gaps; however the reader leaves, the server sees it go at once."""
    server.reply = Reply(events=events(kind, body(kind, "word " * 50)), gap_s=0.05)

    async def read(model: Any, begun: asyncio.Event) -> None:
        async with aclosing(model.stream(Prompt.of("q"), Request(timeout_s=1.0 if how == "timeout" else 30.0))) as stream:
            async for chunk in stream:
                begun.set()
                if how == "closed" and chunk.text:
                    return

    async def go() -> None:
        begun = asyncio.Event()
        http_client = client() if client is not None else None
        model = kind(name="m", model="x", base_url=server.base_url, http_client=http_client)
        reading = asyncio.create_task(read(model, begun))
        if how == "cancelled":
            await asyncio.wait_for(begun.wait(), 20)
            reading.cancel()
        (outcome,) = await asyncio.gather(reading, return_exceptions=True)
        if how == "timeout":
            assert isinstance(outcome, ModelError)
            assert outcome.retryable
            assert "timed out" in str(outcome)
        else:
            assert isinstance(outcome, asyncio.CancelledError) == (how == "cancelled")
        assert await asyncio.to_thread(server.left.wait, 10.0)
        await model.close()
        if http_client is not None:
            await http_client.aclose()

    asyncio.run(go())


def test_a_stream_leaves_its_connection_to_the_next(server: WireServer) -> None:
    """A stream that was read to its end costs no new connection."""
    server.reply = Reply(events=chat_events(chat()))

    async def go() -> None:
        model = OpenAIModel(name="m", model="x", base_url=server.base_url)
        for _ in range(5):
            async for _ in model.stream(Prompt.of("q"), Request()):
                pass
        await model.close()

    asyncio.run(go())
    assert len({received.client for received in server.received}) == 1


def test_tool_calls_without_index(server: WireServer) -> None:
    """Some servers number no tool calls; an id begins the next one."""
    deltas = [
        {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"id": "2", "function": {"name": "g", "arguments": "{}"}}]},
    ]
    end = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    server.reply = Reply(events=sse(*({"choices": [{"delta": d}]} for d in deltas), end, "[DONE]"))
    answer = streamed(OpenAIModel, server)[-1].answer
    assert answer is not None
    assert [(c["id"], c["type"], c["function"]["name"], c["function"]["arguments"]) for c in answer.tool_calls] == [
        ("1", "function", "f", '{"x": 1}'),
        ("2", "function", "g", "{}"),
    ]


F, G = {"name": "f", "arguments": '{"x"'}, {"name": "g", "arguments": '{"y"'}
F_END, G_END = {"arguments": ": 1}"}, {"arguments": ": 2}"}


@pytest.mark.parametrize(
    "pieces",
    [
        [{"index": 0, "id": "1", "function": F}, {"index": 1, "id": "2", "function": G},
         {"index": 0, "function": F_END}, {"index": 1, "function": G_END}],
        [{"index": 0, "id": "1", "function": F}, {"index": 1, "id": "2", "function": G},
         {"index": 1, "function": G_END}, {"index": 0, "function": F_END}],
        [{"id": "1", "function": F}, {"id": "2", "function": G},
         {"id": "1", "function": F_END}, {"id": "2", "function": G_END}],
        [{"index": 0, "id": "1", "function": F}, {"index": 0, "function": F_END},
         {"index": 0, "id": "2", "function": G}, {"index": 0, "function": G_END}],
        [{"index": 0, "id": "1", "function": F}, {"index": 0, "id": "2", "function": G},
         {"index": 0, "id": "1", "function": F_END}, {"index": 0, "id": "2", "function": G_END}],
        [{"index": 0, "id": "1", "function": F}, {"index": 0, "id": "made up", "function": F_END},
         {"index": 1, "id": "2", "function": G}, {"index": 1, "id": "made up too", "function": G_END}],
    ],
    ids=["alternating", "nested", "by id", "one index", "one index, alternating", "an id a piece"],
)  # fmt: skip
@pytest.mark.parametrize("one_by_one", [True, False])
def test_interleaved_tool_calls(server: WireServer, pieces: list[dict[str, Any]], one_by_one: bool) -> None:
    """However a server numbers them, the pieces of one call never end up in another."""
    deltas = [{"tool_calls": [piece]} for piece in pieces] if one_by_one else [{"tool_calls": pieces}]
    end = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    server.reply = Reply(events=sse(*({"choices": [{"delta": d}]} for d in deltas), end, "[DONE]"))
    answer = streamed(OpenAIModel, server)[-1].answer
    assert answer is not None
    calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in answer.tool_calls]
    assert calls == [("1", "f", '{"x": 1}'), ("2", "g", '{"y": 2}')]


TOOLS = tuple({"type": "function", "function": {"name": n, "parameters": {}}} for n in ("get_weather", "get_time", "get"))
CITY, CITY_END = {"arguments": '{"city":'}, {"arguments": ' "Paris"}'}


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (["get_", "weather"], [("get_weather", "{}")]),
        (["ge", "t", "_", "time"], [("get_time", "{}")]),
        (["get", "_time"], [("get_time", "{}")]),
        (["get_weather", "get_time"], [("get_weather", "{}"), ("get_time", "{}")]),
        (["get_weather", "get_weather"], [("get_weather", "{}")]),
        (["get_", "get_we", "get_weather"], [("get_weather", "{}")]),
        (["get_weather", CITY, "get_weather", CITY_END], [("get_weather", '{"city": "Paris"}')]),
        (["get_", "weather", CITY, CITY_END], [("get_weather", '{"city": "Paris"}')]),
        (["get_weather", CITY, CITY_END, "get_time"], [("get_weather", '{"city": "Paris"}'), ("get_time", "{}")]),
        (["get_weather", CITY, CITY_END, "get_weather", CITY, CITY_END], [("get_weather", '{"city": "Paris"}')] * 2),
    ],
)
@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("call_id", ["", "c1"])
def test_names_in_parts(
    server: WireServer, pieces: list[Any], calls: list[tuple[str, str]], index: int | None, call_id: str
) -> None:
    """Names that come in parts, again or growing are one name; another tool's name begins another call."""
    deltas: list[dict[str, Any]] = []
    for piece in pieces:
        function = {"name": piece} if isinstance(piece, str) else piece
        deltas.append({"function": function} if index is None else {"index": index, "function": function})
    if call_id:
        deltas[0]["id"] = call_id
    end = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    server.reply = Reply(events=sse(*({"choices": [{"delta": {"tool_calls": [d]}}]} for d in deltas), end, "[DONE]"))
    chunks = streamed(OpenAIModel, server, prompt=Prompt.of("Weather?", tools=TOOLS))
    answer = chunks[-1].answer
    assert answer is not None
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in answer.tool_calls] == calls
    names = [""] * len(calls)
    for piece in (call for chunk in chunks for call in chunk.tool_calls):
        names[piece["index"]] += piece.get("function", {}).get("name", "")
    assert names == [name for name, _ in calls]


def test_interleaved_blocks(server: WireServer) -> None:
    """Anthropic's blocks have an index of their own each; a second block with the same one is malformed."""
    started = [{"type": "content_block_start", "index": i, "content_block": {**USED, "id": str(i)}} for i in range(2)]
    parts = [(0, '{"x"'), (1, '{"y"'), (0, ": 1}"), (1, ": 2}")]
    deltas = [
        {"type": "content_block_delta", "index": i, "delta": {"type": "input_json_delta", "partial_json": text}}
        for i, text in parts
    ]
    whole = message_events(message(stop_reason="tool_use"))

    def between(*events: dict[str, Any]) -> list[bytes]:
        return [whole[0], *(line for event in events for line in sse(event, event=event["type"])), *whole[-2:]]

    server.reply = Reply(events=between(*started, *deltas))
    answer = streamed(AnthropicModel, server)[-1].answer
    assert answer is not None
    assert [json.loads(call["function"]["arguments"]) for call in answer.tool_calls] == [{"x": 1}, {"y": 2}]
    server.reply = Reply(events=between(started[0], {**started[1], "index": 0}, *deltas))
    with pytest.raises(ModelError, match="malformed"):
        streamed(AnthropicModel, server)


def test_a_tool_call_cut_by_the_token_limit(server: WireServer) -> None:
    """With a finish reason of "length" the partial input is kept; without it, a broken call is a fault."""
    lines = message_events(message(USED, stop_reason="max_tokens"))
    del lines[4]  # the second half of the input
    server.reply = Reply(events=lines)
    answer = streamed(AnthropicModel, server)[-1].answer
    assert answer is not None
    assert answer.finish_reason == "length"
    assert answer.tool_calls[0]["function"]["name"] == "f"
    server.reply = Reply(events=[line.replace(b"max_tokens", b"tool_use") for line in lines])
    with pytest.raises(ModelError, match="malformed"):
        streamed(AnthropicModel, server)


lines = st.lists(st.sampled_from([b"data: {}", b"data:[1,", b"data: 2]", b": comment", b"event: x", b"id: 7", b"", b""]))


@given(lines, st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 200)))
def test_events_are_the_same_however_the_bytes_arrive(lines: list[bytes], ending: bytes, at: list[int]) -> None:
    """Pieces may end anywhere, also inside a line break."""
    raw = b"".join(line + ending for line in [*lines, b""])
    edges = sorted({0, len(raw), *(i for i in at if i < len(raw))})

    expected, data = [], []
    for line in [*lines, b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif not line and data:
            expected.append(b"\n".join(data))
            data = []
    decoder = EventDecoder()
    assert [event for a, b in pairwise(edges) for event in decoder.feed(raw[a:b])] == expected


@given(st.text())
def test_scripted_words(text: str) -> None:
    """A scripted model streams any text word by word, and the last chunk is the answer."""
    assume(split_reasoning(text).answer == text)  # else it holds a model's marker of its thoughts
    answer = Answer(text, finish_reason="stop", logprobs=(TokenLogprob("a", -1.0),))

    async def go() -> list[Chunk]:
        return [c async for c in ScriptedModel("m", [answer]).stream(Prompt.of("q"), Request())]

    chunks = asyncio.run(go())
    assert "".join(c.text for c in chunks) == text
    assert [c.answer for c in chunks if c.answer] == [replace(answer, model="m")]
    assert chunks[-1].answer is not None


def test_a_scripted_cut() -> None:
    """For tests of what follows: some words, then the fault; the next reply follows in the script."""
    model = ScriptedModel("m", [Cut("one two", ModelError("cut", model="m", retryable=True)), "all"])

    async def go() -> tuple[list[str], list[str]]:
        seen: list[str] = []
        with suppress(ModelError):
            async for chunk in model.stream(Prompt.of("q"), Request()):
                seen.append(chunk.text)
        return seen, [c.text async for c in model.stream(Prompt.of("q"), Request())]

    assert asyncio.run(go()) == (["one ", "two"], ["all", ""])
    with pytest.raises(ModelError):
        asyncio.run(model.answer(Prompt.of("q"), Request()))


def test_a_recording_streams() -> None:
    """The recorded answer, in words."""
    model = RecordedModel("m", "x", {"1": {"text": "a b", "cost_usd": 0.1}})

    async def go() -> list[Chunk]:
        return [c async for c in model.stream(Prompt.of("q", id="1"), Request())]

    chunks = asyncio.run(go())
    assert [c.text for c in chunks] == ["a ", "b", ""]
    assert chunks[-1].answer == asyncio.run(model.answer(Prompt.of("q", id="1"), Request()))[0]


THOUGHTS = [
    (OpenAIModel, chat("<think>no, 41</think>\n\n42"), 0),
    (OpenAIModel, chat("no, 41\n</think>\n\n42"), 1),
    (OpenAIModel, chat("42", message={"reasoning_content": "no, 41"}), 0),
    (
        AnthropicModel,
        message({"type": "thinking", "thinking": "no, 41", "signature": "s"}, {"type": "text", "text": "42"}),
        0,
    ),
    (AnthropicModel, message({"type": "text", "text": "<think>no, 41</think>42"}), 0),
]


@pytest.mark.parametrize(("kind", "of", "retractions"), THOUGHTS)
def test_a_streamed_thought_is_not_the_answer(server: WireServer, kind: Any, of: dict[str, Any], retractions: int) -> None:
    """No chunk shows a thought as text, but where only its end arrives; then it is taken back, and held the next time."""
    server.reply = lambda request: Reply(events=events(kind, of)) if request.body.get("stream") else Reply(of)

    async def go() -> list[list[Chunk]]:
        model = kind(name="m", model="x", api_key=KEY, base_url=server.base_url)
        try:
            return [[chunk async for chunk in model.stream(Prompt.of("hi"), Request())] for _ in range(2)]
        finally:
            await model.close()

    first, second = asyncio.run(go())
    for chunks, retracted in ((first, retractions), (second, 0)):
        assert sum(chunk.retracts for chunk in chunks) == retracted
        since = max((i for i, chunk in enumerate(chunks) if chunk.retracts), default=0)
        assert "".join(chunk.text for chunk in chunks[since:]) == "42"
        assert chunks[-1].answer == whole(kind, server)
        assert chunks[-1].answer.reasoning == "no, 41"
