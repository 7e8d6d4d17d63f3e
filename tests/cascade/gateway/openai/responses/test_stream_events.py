"""The writer of a streamed response, by its events alone."""

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from cascade.engine.streaming import Reasoning
from cascade.gateway.errors import ApiError
from cascade.gateway.openai.responses.request import read
from cascade.gateway.openai.responses.stream import ResponseWriter
from cascade.result import Result
from judges import Answer


def events_of(content: bytes) -> list[dict[str, Any]]:
    """The data of server-sent events."""
    return [json.loads(event.data) for event in SSEDecoder().iter_bytes(iter([content])) if event.data]


def result_of(answer: Answer) -> Result:
    """A run that ended with an answer."""
    return Result(
        text=answer.text, parsed=None, confidence=0.9, accepted=True, tier="t", model="m", cost_usd=None, latency_s=0.1,
        attempts=(), reason="accepted", run_id="r", answer=answer,
    )  # fmt: skip


@given(
    pieces=st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), st.text(min_size=1)), max_size=6),
    calls=st.integers(0, 3),
)
def test_the_items_are_what_was_sent(pieces: list[tuple[str, str]], calls: int) -> None:
    """Whatever arrives in whatever order: numbers without a gap, each item begun and ended once, deltas that add up."""
    text = "".join(piece for kind, piece in pieces if kind == "text")
    reasoning = "".join(piece for kind, piece in pieces if kind == "reasoning")
    made_calls = tuple(
        {"id": f"c{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(calls)
    )
    writer = ResponseWriter(read({"model": "m", "input": "Hi"}))
    content = b""
    for kind, piece in pieces:
        content += writer.text(piece, "m") if kind == "text" else writer.reasoning(Reasoning("t", piece), "m")
    answer = Answer(text, reasoning=reasoning or None, tool_calls=made_calls, finish_reason="stop")
    events = events_of(content + writer.end(result_of(answer)))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    open_items, ended = [], []
    for event in events[2:-1]:
        if event["type"] == "response.output_item.added":
            assert not open_items
            open_items.append(event["output_index"])
        elif event["type"] == "response.output_item.done":
            assert open_items.pop() == event["output_index"] == len(ended)
            ended.append(event["item"])
        else:
            assert [event["output_index"]] == open_items
    output = events[-1]["response"]["output"]
    assert output == ended
    parts = [part["text"] for item in output if item["type"] == "message" for part in item["content"]]
    assert "".join(parts) == text
    assert "".join(part["text"] for item in output if item["type"] == "reasoning" for part in item["summary"]) == reasoning
    assert [item["call_id"] for item in output if item["type"] == "function_call"] == [call["id"] for call in made_calls]


def test_an_error_is_raised_by_the_client() -> None:
    """Its stream would take an event of the type ``error`` for any other, unless it has the field ``error``."""
    writer = ResponseWriter(read({"model": "m", "input": "Hi"}))
    content = writer.text("half", "m") + writer.error(ApiError(502, "it broke off", code="retracted"))
    events = events_of(content)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["status"] == "failed"
    import httpx2

    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})
    )
    client = openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=httpx2.Client(transport=transport))
    with pytest.raises(openai.APIError, match="it broke off"):
        list(client.responses.create(model="m", input="Hi", stream=True))
