"""Stored chat completions of OpenAI (``store=True``): each completion with the messages that belong to it.

The API lists the completions without their prompts; docs/how-to/import-and-grade.md shows how to fetch both.
Equal prompts are one example; ``metadata`` may hold ``reference`` and ``task``.
"""

from collections.abc import Iterator
from dataclasses import replace

from cascade.models.protocol import ModelError

from .base import ImportedAnswer, Options, Skipped
from .chat import UnsupportedPartError, example_of, messages_of
from .fields import Field
from .openai_batch import completed
from .records import read_each, records

READS = "read are chat completions with their 'messages', a line each"


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every completion. Raises RecordingError, OSError."""
    return read_each(records(path, READS), of_completion, options.max_bad)


def of_completion(row: Field) -> Iterator[ImportedAnswer | Skipped]:
    """The first answer of a completion, and further samples where it has several choices."""
    where = f"{row.where}: {row.need('id', str).value}"
    model = row.need("model", str).value
    stored = row.get("messages", list, dict)
    if stored is None:
        raise row.wrong("messages: is missing; the list of completions alone has no prompts")
    listed = stored.value.get("data") if isinstance(stored.value, dict) else stored.value
    try:
        messages = messages_of(listed)
        answers = completed(row, model)
    except UnsupportedPartError as unsupported:
        yield Skipped(where, f"a message has a part of the type {unsupported}, which no prompt of a recording can hold")
        return
    except ModelError as broken:
        raise row.wrong(f"is not a chat completion ({broken})") from None
    # The list of messages may end with the answer.
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or not answers:
        yield Skipped(where, "it has no prompt or no text")
        return
    metadata = row.value_of("metadata", dict) or {}
    example = example_of(
        messages, row.value_of("tools", list), task=str(metadata.get("task", "")), reference=metadata.get("reference")
    )
    for answer in answers:
        yield ImportedAnswer(example, model, replace(answer, model=model), provider="openai")
