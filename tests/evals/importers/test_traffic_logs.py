"""Logs of production traffic: LiteLLM, Langfuse, OpenTelemetry, stored completions and Anthropic's batches."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.importers import anthropic_batch, langfuse, litellm, openai_stored, otel
from evals.recording import Example, read
from tests.evals.importers.logs import imported, run

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22},
}


def write_rows(path: Path, *rows: Any) -> Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(examples: dict[str, Example]) -> tuple[Example, dict[str, Any]]:
    """The one example of a log, and the answer of its one model."""
    [example] = examples.values()
    [answer] = example.answers.values()
    return example, dict(answer)


SPEND = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "model": "gpt-4o-mini",
    "custom_llm_provider": "openai",
    "spend": 4.2e-06,
    "prompt_tokens": 20,
    "completion_tokens": 2,
    "total_tokens": 22,
    "startTime": "2026-10-01T12:00:00.500000Z",
    "endTime": "2026-10-01T12:00:01.750000Z",
    "cache_hit": "False",
    "status": "success",
    "messages": {},
    "response": COMPLETION,
    "proxy_server_request": json.dumps({"model": "gpt-4o-mini", "messages": MESSAGES}),
}


@pytest.mark.parametrize("shape", ["lines", "list", "data"])
def test_litellm_spend_logs(tmp_path: Path, shape: str) -> None:
    """A row gives prompt, answer, tokens, cost and time, whether the API or the database wrote it."""
    if shape == "lines":
        path = write_rows(tmp_path / "spend.jsonl", {**SPEND, "response": json.dumps(COMPLETION)})
    else:
        path = tmp_path / "spend.json"
        path.write_text(json.dumps([SPEND] if shape == "list" else {"data": [SPEND], "total": 1}))
    examples, notes = imported(litellm.items, path)
    example, answer = only(examples)
    assert (example.system, example.prompt) == ("Be brief.", "Capital of France?")
    assert list(example.answers) == ["gpt-4o-mini"]
    assert (answer["text"], answer["finish_reason"], answer["cost_usd"], answer["latency_s"]) == (
        "Paris",
        "stop",
        4.2e-06,
        1.25,
    )
    assert answer["usage"] == {"input_tokens": 20, "output_tokens": 2}
    assert answer["quality"] is None
    assert not notes.skipped


def test_litellm_callback_payload(tmp_path: Path) -> None:
    """The standard logging payload has the cost under another name, and times in Unix seconds."""
    payload = {"id": "1", "call_type": "completion", "status": "success", "model": "m", "response_cost": 0.001}
    times = {"startTime": 1000.0, "endTime": 1000.5, "cache_hit": None}
    row = {**payload, **times, "messages": MESSAGES, "response": COMPLETION}
    _, answer = only(imported(litellm.items, write_rows(tmp_path / "log.jsonl", row))[0])
    assert (answer["cost_usd"], answer["latency_s"]) == (0.001, 0.5)


def test_litellm_rows_without_an_answer(tmp_path: Path) -> None:
    """Failures, embeddings and rows without stored prompts are left out and counted; a spend of 0 is unknown."""
    path = write_rows(
        tmp_path / "spend.jsonl",
        {**SPEND, "request_id": "a", "status": "failure"},
        {**SPEND, "request_id": "b", "call_type": "aembedding"},
        {**SPEND, "request_id": "c", "proxy_server_request": "{}"},
        {**SPEND, "request_id": "d", "response": {}},
        {**SPEND, "request_id": "e", "spend": 0.0},
        {**SPEND, "request_id": "f", "cache_hit": "True"},
    )
    examples, notes = imported(litellm.items, path)
    assert notes.skipped == {
        "the request failed": 1,
        "no chat (call_type aembedding)": 1,
        "the prompt or the answer was not stored; store_prompts_in_spend_logs stores them": 2,
    }
    _, answer = only(examples)
    assert answer["cost_usd"] is None
    assert len(answer["samples"]) == 1
    assert notes.noted == {"answered from LiteLLM's cache: cost and time are unknown": 1}


GENERATION = {
    "id": "gen-1",
    "traceId": "t",
    "type": "GENERATION",
    "name": "chat",
    "startTime": "2026-10-01T12:00:00.000Z",
    "endTime": "2026-10-01T12:00:02.000Z",
    "model": "claude-haiku",
    "input": {"messages": MESSAGES},
    "output": {"role": "assistant", "content": "Paris"},
    "usageDetails": {"input": 5, "input_cached_tokens": 15, "output": 2, "total": 22},
    "costDetails": {"input": 1e-5, "output": 1e-5, "total": 2e-5},
    "scores": {"correct": [1], "tone": ["friendly"]},
    "level": "DEFAULT",
}
BLOB = {
    "id": "gen-1",
    "trace_id": "t",
    "type": "GENERATION",
    "start_time": "2026-10-01 12:00:00.000000",
    "end_time": "2026-10-01 12:00:02.000000",
    "provided_model_name": "claude-haiku",
    "input": json.dumps(MESSAGES),
    "output": json.dumps({"role": "assistant", "content": [{"type": "text", "text": "Paris"}]}),
    "usage_details": {"input": 5, "input_cached_tokens": 15, "output": 2},
    "total_cost": "0.00002",
    "level": "DEFAULT",
}


@pytest.mark.parametrize("row", [GENERATION, BLOB], ids=["interface", "blob storage"])
def test_langfuse_generations(tmp_path: Path, row: dict[str, Any]) -> None:
    """Both spellings of the fields are read; cached tokens are part of the input tokens."""
    examples, notes = imported(langfuse.items, write_rows(tmp_path / "observations.jsonl", row))
    example, answer = only(examples)
    assert (example.system, example.prompt) == ("Be brief.", "Capital of France?")
    assert (answer["text"], answer["latency_s"], answer["cost_usd"]) == ("Paris", 2.0, pytest.approx(2e-5))
    assert answer["usage"] == {"input_tokens": 20, "output_tokens": 2, "cached_tokens": 15}
    assert not notes.skipped


def test_langfuse_scores_and_spans(tmp_path: Path) -> None:
    """--score takes a score as the quality; spans, failures and generations without content are left out."""
    path = tmp_path / "observations.json"
    rows = [GENERATION, {**GENERATION, "id": "s", "type": "SPAN"}, {**GENERATION, "id": "e", "level": "ERROR"},
            {**GENERATION, "id": "n", "input": None}]  # fmt: skip
    path.write_text(json.dumps(rows))
    examples, notes = imported(langfuse.items, path, score="correct")
    assert only(examples)[1]["quality"] == 1.0
    assert notes.skipped == {"no generation (type SPAN)": 1, "the request failed": 1, "it has no input or no output": 1}
    _, notes = imported(langfuse.items, path, score="tone")
    assert notes.noted == {"no quality: no score 'tone' in [0, 1]": 1}


def otlp(attributes: dict[str, Any], **span: Any) -> dict[str, Any]:
    """An export request with one span."""

    def value(v: Any) -> dict[str, Any]:
        if isinstance(v, list):
            return {"arrayValue": {"values": [value(x) for x in v]}}
        return {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}

    pairs = [{"key": key, "value": value(v)} for key, v in attributes.items()]
    whole = {"spanId": "1", "name": "chat m", "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1500000000",
             "attributes": pairs, "status": {}, **span}  # fmt: skip
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [whole]}]}]}


CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 2,
    "gen_ai.response.finish_reasons": ["stop"],
}
CONVENTIONS = {
    "messages": otlp({
        **CALL,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": json.dumps(
            [{"role": "user", "parts": [{"type": "text", "content": "Capital of France?"}]}]
        ),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": "Paris"}], "finish_reason": "stop"}]
        ),
    }),
    "openllmetry": otlp({
        **CALL,
        "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": json.dumps([{"type": "text", "text": "Capital of France?"}]),
        "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "Paris",
    }),
    "events": otlp(CALL, events=[
        {"name": "gen_ai.system.message", "attributes": [{"key": "content", "value": {"stringValue": "Be brief."}}]},
        {"name": "gen_ai.user.message", "attributes": [{"key": "content", "value": {"stringValue": "Capital of France?"}}]},
        {"name": "gen_ai.choice", "attributes": [
            {"key": "message", "value": {"stringValue": json.dumps({"role": "assistant", "content": "Paris"})}},
        ]},
    ]),
    "console": {
        "name": "chat", "context": {"span_id": "0x1"}, "status": {"status_code": "UNSET"},
        "start_time": "2026-10-01T12:00:00.000000Z", "end_time": "2026-10-01T12:00:00.500000Z",
        "attributes": {**CALL, "gen_ai.input.messages": json.dumps(MESSAGES),
                       "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": "Paris"}])},
    },
}  # fmt: skip


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", ["spans.jsonl", "spans.json"])
def test_otel_spans(tmp_path: Path, convention: str, name: str) -> None:
    """Every convention gives the same example; the price is the provider's list price."""
    path = write_rows(tmp_path / name, CONVENTIONS[convention], CONVENTIONS[convention])
    examples, notes = imported(otel.items, path)
    example, answer = only(examples)
    assert (example.system, example.prompt) == ("Be brief.", "Capital of France?")
    assert (answer["text"], answer["finish_reason"], answer["latency_s"]) == ("Paris", "stop", 0.5)
    assert answer["usage"] == {"input_tokens": 20, "output_tokens": 2}
    assert answer["cost_usd"] == pytest.approx(20 * 0.15e-6 + 2 * 0.6e-6)
    assert len(answer["samples"]) == 1
    assert not notes.skipped


def test_otel_spans_that_are_no_answers(tmp_path: Path) -> None:
    """Other spans, failures and calls without captured content are counted by reason."""
    path = write_rows(
        tmp_path / "spans.jsonl",
        CONVENTIONS["messages"],
        otlp({"http.method": "POST"}),
        otlp({**CALL, "gen_ai.operation.name": "embeddings"}),
        otlp(CALL),
        otlp(CALL, status={"code": 2}),
    )
    examples, notes = imported(otel.items, path)
    assert len(examples) == 1
    assert sorted(notes.skipped.values()) == [1, 1, 2]


def test_tool_calls_in_spans(tmp_path: Path) -> None:
    """Calls in the parts of a message become tool calls in OpenAI's shape."""
    call = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}
    row = otlp({**CALL, "gen_ai.input.messages": json.dumps(MESSAGES),
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}])})  # fmt: skip
    _, answer = only(imported(otel.items, write_rows(tmp_path / "spans.jsonl", row))[0])
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert answer["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert answer["text"] == ""


THOUGHTS = {
    "a part": {
        "role": "assistant",
        "parts": [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Paris"}],
    },
    "a field": {"role": "assistant", "content": "Paris", "reasoning_content": "Hm."},
    "openrouter's field": {"role": "assistant", "content": "Paris", "reasoning": "Hm."},
    "the text": {"role": "assistant", "content": "<think>Hm.</think>Paris"},
    "anthropic's blocks": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "text", "text": "Paris"}],
    },
    "litellm's blocks": {
        "role": "assistant",
        "content": "Paris",
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}],
    },
    "a response": {
        "object": "response",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris"}]},
        ],
    },
    "a response's items": [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris"}]},
    ],
}


@pytest.mark.parametrize(
    ("log", "thought"),
    [
        *((log, thought) for log in ("otel", "langfuse", "litellm") for thought in THOUGHTS),
        *(("openllmetry", thought) for thought in ("a field", "openrouter's field", "the text")),  # its attributes are flat
    ],
)
def test_reasoning_in_logs(tmp_path: Path, log: str, thought: str) -> None:
    """A logged thought is the answer's reasoning, wherever it stands."""
    reply = THOUGHTS[thought]
    path = tmp_path / "log.jsonl"
    if log == "otel":
        output = json.dumps(reply if isinstance(reply, list) else [reply])
        row = otlp({**CALL, "gen_ai.input.messages": json.dumps(MESSAGES), "gen_ai.output.messages": output})
        examples, _ = imported(otel.items, write_rows(path, row))
    elif log == "openllmetry":
        assert isinstance(reply, dict)
        fields = {f"gen_ai.completion.0.{name}": value for name, value in reply.items()}
        row = otlp({**CALL, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Capital of France?", **fields})
        examples, _ = imported(otel.items, write_rows(path, row))
    elif log == "langfuse":
        examples, _ = imported(langfuse.items, write_rows(path, {**GENERATION, "output": reply}))
    else:
        whole = reply if isinstance(reply, list) or "output" in reply else {"choices": [{"message": reply}]}
        examples, _ = imported(litellm.items, write_rows(path, {**SPEND, "response": whole}))
    _, answer = only(examples)
    assert (answer["text"], answer["reasoning"]) == ("Paris", "Hm.")


@pytest.mark.parametrize(
    "output",
    [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Paris"}]}, "finishReason": "STOP"}]},
        {"role": "model", "parts": [{"text": "Paris"}]},
        {"generations": [[{"text": "Paris", "message": {"kwargs": {"content": "Paris"}}}]]},
        {"choices": [{"text": "Paris", "finish_reason": "stop"}]},
        {"completion": "Paris"},
        {"text": "Paris"},
        [{"generated_text": "Paris"}],
        {"type": "ai", "content": "Paris"},
    ],
)
@pytest.mark.parametrize(
    "prompt",
    [
        [[{"type": "human", "content": "Capital of France?"}]],
        [{"type": "HumanMessage", "kwargs": {"content": "Capital of France?"}}],
        {"contents": [{"role": "user", "parts": [{"text": "Capital of France?"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Capital of France?"}]}]},
    ],
)
def test_shapes_of_other_libraries(tmp_path: Path, prompt: Any, output: Any) -> None:
    """Gemini's contents and LangChain's messages are prompts and answers as OpenAI's are."""
    row = {**GENERATION, "input": prompt, "output": output}
    example, answer = only(imported(langfuse.items, write_rows(tmp_path / "a.jsonl", row))[0])
    assert (example.prompt, answer["text"]) == ("Capital of France?", "Paris")


def test_refusals_and_calls_in_logs(tmp_path: Path) -> None:
    """A provider's refusal and tool calls are taken over, in the shape of every interface."""
    refused = {"role": "assistant", "content": None, "refusal": "Non."}
    _, answer = only(imported(langfuse.items, write_rows(tmp_path / "a.jsonl", {**GENERATION, "output": refused}))[0])
    assert (answer["text"], answer["refusal"]) == ("Non.", "Non.")
    function = {"name": "weather", "arguments": '{"city": "Paris"}'}
    outputs = [
        [{"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'}],
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "weather", "args": {"city": "Paris"}}]},
    ]
    for output in outputs:
        _, answer = only(imported(langfuse.items, write_rows(tmp_path / "b.jsonl", {**GENERATION, "output": output}))[0])
        assert answer["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    flat = {"gen_ai.completion.0.tool_calls.0.name": "weather", "gen_ai.completion.0.tool_calls.0.id": "c1",
            "gen_ai.completion.0.tool_calls.0.arguments": '{"city": "Paris"}', "gen_ai.completion.0.role": "assistant",
            "llm.request.functions.0.name": "weather",
            "llm.request.functions.0.parameters": '{"type": "object"}'}  # fmt: skip
    row = otlp({**CALL, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Weather?", **flat})
    example, answer = only(imported(otel.items, write_rows(tmp_path / "c.jsonl", row))[0])
    assert answer["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert example.tools[0]["function"]["name"] == "weather"


def test_stored_completions(tmp_path: Path) -> None:
    """A completion with its messages, listed or as the API's page, with the metadata's reference and task."""
    row = {
        **COMPLETION,
        "metadata": {"reference": "Paris", "task": "facts"},
        "messages": {"object": "list", "data": MESSAGES},
    }
    examples, _ = imported(openai_stored.items, write_rows(tmp_path / "stored.jsonl", row))
    example, answer = only(examples)
    assert (example.reference, example.task, example.prompt) == ("Paris", "facts", "Capital of France?")
    assert (answer["text"], answer["usage"]) == ("Paris", {"input_tokens": 20, "output_tokens": 2})
    assert answer["cost_usd"] == pytest.approx(20 * 0.15e-6 + 2 * 0.6e-6)


PARAMS = {
    "model": "claude-3-5-haiku",
    "max_tokens": 20,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Capital of France?"}]}],
}
RESULT = {
    "type": "succeeded",
    "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-5-haiku-20241022",
        "content": [{"type": "text", "text": "Paris"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 20, "output_tokens": 2},
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", ["lines", "requests"])
def test_anthropic_batch(tmp_path: Path, shape: str) -> None:
    """Results find their requests by custom_id; failures are counted by their type."""
    error = {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}}
    output = write_rows(
        tmp_path / "results.jsonl",
        {"custom_id": "a", "result": RESULT},
        {"custom_id": "b", "result": error},
        {"custom_id": "c", "result": {"type": "expired"}},
    )
    requests = [{"custom_id": id, "params": PARAMS} for id in "abc"]
    sent = tmp_path / "sent.json"
    if shape == "lines":
        sent = write_rows(tmp_path / "sent.jsonl", *requests)
    else:
        sent.write_text(json.dumps({"requests": requests}))
    examples, notes = imported(anthropic_batch.items, output, inputs=(str(sent),))
    example, answer = only(examples)
    assert (example.id, example.system, example.prompt) == ("a", "Be brief.", "Capital of France?")
    assert list(example.answers) == ["claude-3-5-haiku"]
    assert (answer["text"], answer["finish_reason"]) == ("Paris", "stop")
    assert answer["usage"] == {"input_tokens": 20, "output_tokens": 2}
    assert notes.skipped == {"the request failed (overloaded_error)": 1, "the request failed (expired)": 1}


def test_a_few_bad_records_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One record of eleven is counted with its place; two are more than a tenth, and nothing is written."""
    rows = [{**SPEND, "request_id": str(i), "messages": [{"role": "user", "content": f"{i}?"}]} for i in range(11)]
    path, out = tmp_path / "spend.jsonl", tmp_path / "rec.jsonl"
    write_rows(path, *rows)
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:4], text[4][:40], *text[5:]]))
    assert run("litellm", path, "--out", out) == 0
    assert "left out: 1, the record cannot be read: " in (output := capsys.readouterr().out)
    assert f"{path}:5: not valid JSON" in output
    assert len(list(read(out))) == 10
    out.unlink()
    rows[7]["model"] = 7
    path.write_text("\n".join([*text[:4], text[4][:40], *text[5:7], json.dumps(rows[7]), *text[8:]]))
    assert run("litellm", path, "--out", out) == 2
    assert "2 of 11 records cannot be read, more than --max-bad 0.1 allows" in capsys.readouterr().err
    assert not out.exists()
    assert run("litellm", path, "--max-bad", 0.2, "--out", out) == 0
    assert len(list(read(out))) == 9


def test_a_log_of_another_tool_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no record can be read, the first is named: it is the wrong format, not a bad record."""
    path = write_rows(tmp_path / "log.jsonl", {"a": 1}, {"a": 2})
    assert run("langfuse", path, "--out", tmp_path / "rec.jsonl") == 2
    assert f"{path}:1: id: is missing; read are Langfuse's observations" in capsys.readouterr().err
