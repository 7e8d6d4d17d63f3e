"""Output of OpenAI's Batch API, with the files that were sent (``--input``), which alone hold the prompts.

A ``custom_id`` is an example; chat completions and the Responses API are read. ``metadata`` of a request may hold
``reference`` and ``task``. The model is called as the request calls it. Batches are billed at half the list price.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError
from evals.recording import Example, RecordingError
from judges import Answer, TokenLogprob, Usage

from . import records
from .base import ImportedAnswer, Options, Skipped, split_messages
from .chat import thought_of
from .fields import NUMBER, Field, lines
from .records import read_each

READS = "read is what the Batch API gives back for /v1/chat/completions and /v1/responses"
_SENT = "--input takes the JSON Lines file that was sent as the batch"
_DISCOUNT = 0.5
Sent = dict[str, list[Field]]  # the requests' bodies by custom_id


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every line of an output or error file. Raises RecordingError, OSError."""
    if not options.inputs:
        raise RecordingError(f"{path}: the prompts of a batch are not in its output; {_SENT}")
    requests = sent(options.inputs)
    yield from read_each(records.lines(path, READS), lambda line: of_line(line, requests), options.max_bad)


def sent(paths: tuple[str, ...]) -> Sent:
    """The prompts by custom_id; several batches may use the same ids. Raises RecordingError, OSError."""
    requests: Sent = defaultdict(list)
    for path in paths:
        for line in lines(path, _SENT):
            requests[line.need("custom_id", str).value].append(line.need("body", dict))
    return requests


def of_line(line: Field, requests: Sent) -> Iterator[ImportedAnswer | Skipped]:
    """The answers of one request: the first, and further samples where it asked for several."""
    id = line.need("custom_id", str).value
    where = f"{line.where}: {id}"
    response, error = line.get("response", dict), line.get("error", dict, str)
    if response is None:
        if error is None:
            raise line.wrong("has neither response nor error")
        # Self-hosted servers write the error as a text, which may quote the prompt.
        code = None if isinstance(error.value, str) else error.value_of("code", str, int)
        yield Skipped(where, f"the request failed ({code or 'no code'})")
        return
    status = response.need("status_code", int).value
    if status != 200:
        yield Skipped(where, f"the request failed (HTTP {status})")
        return
    if response.get("body", dict) is None and error is not None:
        yield Skipped(where, "the request failed (no body)")
        return
    body = response.need("body", dict)
    request = _request(line, id, body, requests)
    model = request.need("model", str).value
    try:
        answers = _responded(body) if body.value.get("object") == "response" else completed(body, model)
    except ModelError as broken:
        raise body.wrong(f"is not a chat completion ({broken})") from None
    if not answers:
        yield Skipped(where, "no text")
        return
    example = _example(request, id)
    for answer in _shared(answers):
        yield ImportedAnswer(example, model, replace(answer, model=model), None, "openai", _DISCOUNT)


def _request(line: Field, id: str, body: Field, requests: Sent) -> Field:
    """The prompt with this id; of several batches, that of the model that answered."""
    bodies = requests.get(id, [])
    if len(bodies) > 1:
        # The answer names a dated version of the model that was asked for.
        model = body.need("model", str).value
        named = [(len(r.need("model", str).value), r) for r in bodies if model.startswith(r.need("model", str).value)]
        longest = max((length for length, _ in named), default=0)
        bodies = [r for length, r in named if length == longest]
    if not bodies:
        raise line.wrong(f"no request for this answer is in the files of --input: custom_id {id!r}")
    if any(r.value != bodies[0].value for r in bodies):
        raise line.wrong(
            f"two requests to one model have the custom_id {id!r}; import the batches one by one and merge them"
        )
    return bodies[0]


def _example(request: Field, id: str) -> Example:
    system = None
    if (messages := request.get("messages", list)) is not None:
        prompt, system = split_messages([_message(m) for m in messages.items()])
    else:
        content = request.need("input", str, list)
        system = request.value_of("instructions", str)
        prompt = content.value if isinstance(content.value, str) else [_message(m) for m in content.items()]
    metadata = request.value_of("metadata", dict) or {}
    format = request.get("response_format", dict)
    described = format.value.get("json_schema") if format is not None else None
    schema = described.get("schema") if isinstance(described, dict) else None
    return Example(
        id, prompt, {}, task=str(metadata.get("task", "")), system=system, schema=schema,
        tools=tuple(request.value_of("tools", list) or ()), reference=metadata.get("reference"),
    )  # fmt: skip


def _message(message: Field) -> dict[str, Any]:
    message.need("role", str)
    return {**message.value, "content": message.value.get("content")}


def completed(body: Field, model: str) -> list[Answer]:
    """A chat completion, read as if it came over the wire; without choices that say nothing at all. Raises ModelError."""
    answers = OpenAIModel(name=model, model=model).answers(body.value)
    has_content = (choice["message"].get("content") is not None for choice in body.value["choices"])
    return [a for a, text in zip(answers, has_content, strict=True) if text or a.text or a.tool_calls]


def _responded(body: Field) -> list[Answer]:
    """An object of the Responses API."""
    texts: list[str] = []
    tokens: list[TokenLogprob] = []
    calls: list[dict[str, Any]] = []
    refusals: list[str] = []
    for item in body.need("output", list).items():
        kind = item.need("type", str).value
        if kind == "function_call":
            function = {name: item.need(name, str).value for name in ("name", "arguments")}
            calls.append({"id": item.value_of("call_id", str), "type": "function", "function": function})
        if kind != "message":
            continue
        for part in item.need("content", list).items():
            refusal = part.value_of("refusal", str) or ""
            refusals.append(refusal)
            texts.append(part.value_of("text", str) or refusal)
            logged = part.get("logprobs", list)
            for token in logged.items() if logged is not None else ():
                tokens.append(TokenLogprob(token.need("token", str).value, token.need("logprob", *NUMBER).value))
    if not texts and not calls:
        return []
    cut = body.get("incomplete_details", dict)
    reason = "stop" if cut is None else cut.value_of("reason", str)
    usage = body.get("usage", dict)
    return [
        Answer(
            "".join(texts),
            tool_calls=tuple(calls),
            reasoning=thought_of({"reasoning": [i for i in body.value["output"] if i.get("type") == "reasoning"]}) or None,
            refusal="".join(refusals) or None,
            finish_reason="tool_calls" if calls else "length" if reason == "max_output_tokens" else reason,
            logprobs=tuple(tokens) or None,
            usage=_usage(usage) if usage is not None else None,
        )
    ]


def _usage(usage: Field) -> Usage:
    read, wrote = usage.get("input_tokens_details", dict), usage.get("output_tokens_details", dict)
    return Usage(
        usage.need("input_tokens", int, low=0).value,
        usage.need("output_tokens", int, low=0).value,
        cached_tokens=(read.value_of("cached_tokens", int, low=0) or 0) if read is not None else 0,
        cache_write_tokens=(read.value_of("cache_write_tokens", int, low=0) or 0) if read is not None else 0,
        reasoning_tokens=(wrote.value_of("reasoning_tokens", int, low=0) or 0) if wrote is not None else 0,
    )


def _shared(answers: list[Answer]) -> list[Answer]:
    """Each answer with its share of the output tokens; the prompt, billed once, is the first one's."""
    whole, n = answers[0].usage, len(answers)
    if whole is None or n == 1:
        return answers
    each, rest = divmod(whole.output_tokens, n)
    first = replace(whole, output_tokens=each + rest)
    return [replace(a, usage=first if i == 0 else Usage(0, each)) for i, a in enumerate(answers)]
