"""Results of Anthropic's Message Batches, with the requests that were sent (``--input``), which alone hold the prompts.

A ``custom_id`` is an example. Batches are billed at half the list price.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cascade.gateway.anthropic.blocks import messages_of, system_of
from cascade.gateway.errors import ApiError
from cascade.models.anthropic import AnthropicModel
from cascade.models.protocol import ModelError
from evals.recording import Example, RecordingError

from .base import ImportedAnswer, Options, Skipped, split_messages
from .fields import Field
from .records import lines, read_each, records

READS = "read are the results of a message batch, a line each with 'custom_id' and 'result'"
_SENT = "--input takes the requests of the batch: JSON with 'requests', or a line each, with 'custom_id' and 'params'"
_DISCOUNT = 0.5


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every line of a result file. Raises RecordingError, OSError."""
    if not options.inputs:
        raise RecordingError(f"{path}: the prompts of a batch are not in its results; {_SENT}")
    requests: dict[str, list[Field]] = defaultdict(list)
    for sent in options.inputs:
        for request in records(sent, _SENT, ("requests",)):
            if isinstance(request, RecordingError):
                raise request
            requests[request.need("custom_id", str).value].append(request.need("params", dict))
    return read_each(lines(path, READS), lambda line: [of_line(line, requests)], options.max_bad)


def of_line(line: Field, requests: dict[str, list[Field]]) -> ImportedAnswer | Skipped:
    """The answer to one request."""
    id = line.need("custom_id", str).value
    where = f"{line.where}: {id}"
    result = line.need("result", dict)
    kind = result.need("type", str).value
    if kind != "succeeded":
        return Skipped(where, f"the request failed ({_error_type(result) or kind})")
    message = result.need("message", dict)
    bodies = requests.get(id, [])
    # The answer names a dated version of the model that was requested.
    named = [r for r in bodies if message.need("model", str).value.startswith(r.need("model", str).value)] or bodies
    if not named:
        raise line.wrong(f"the files of --input have no request with the custom_id {id!r}")
    if any(request.value != named[0].value for request in named):
        raise line.wrong(f"two requests have the custom_id {id!r}; import the batches one by one and merge them")
    request = named[0]
    model = request.need("model", str).value
    try:
        example = _example(request, id)
    except ApiError as error:
        return Skipped(where, f"the prompt cannot be held by a recording ({error})")
    try:
        (answer,) = AnthropicModel(name=model, model=model).answers(message.value)
    except ModelError as error:
        raise message.wrong(f"is not a message ({error})") from None
    return ImportedAnswer(example, model, replace(answer, model=model), None, "anthropic", _DISCOUNT)


def _error_type(result: Field) -> Any:
    error = result.value.get("error")
    inner = error.get("error", error) if isinstance(error, dict) else None
    return inner.get("type") if isinstance(inner, dict) else None


def _example(request: Field, id: str) -> Example:
    """The request as an example. Raises ApiError for what OpenAI's shape cannot hold."""
    system_field = request.value.get("system")
    head = [system_of(system_field)] if system_field else []
    prompt, system = split_messages([*head, *map(_plain, messages_of(request.need("messages", list).value, set()))])
    tools = [
        {"type": "function", "function": {"name": tool.get("name"), "description": tool.get("description", ""),
                                          "parameters": tool["input_schema"]}}
        for tool in request.value_of("tools", list) or ()
        if isinstance(tool, dict) and isinstance(tool.get("input_schema"), dict)
    ]  # fmt: skip
    return Example(id, prompt, {}, system=system, tools=tuple(tools))


def _plain(message: Any) -> dict[str, Any]:
    """The message, as text where all of its parts are text."""
    parts = message.get("content")
    if isinstance(parts, list) and all(part.get("type") == "text" for part in parts):
        return {**message, "content": "\n".join(part["text"] for part in parts)}
    return dict(message)
