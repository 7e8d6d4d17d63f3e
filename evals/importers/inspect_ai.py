"""Logs of inspect_ai, ``.json`` or ``.eval`` (an archive with a file a sample).

A sample is an example, ``eval.task`` its task, ``target`` its reference, ``eval.model`` the model; further epochs are
further samples. What was asked is what stood before the first message that the model generated.
"""

import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from cascade.util.bounded_read import UnreadableFileError, read_at_most, too_large
from cascade.util.extras import sentence
from evals.recording import Example, RecordingError
from judges import Answer, TokenLogprob, Usage

from .base import ImportedAnswer, Options, Skipped, split_messages, unit_score
from .fields import NUMBER, Field, document
from .records import read_each

READS = "read are logs of inspect_ai's version 2 (inspect_ai 0.3.x): write it again with 'inspect log convert --to json'"
MAX_MEMBER_BYTES = 256 << 20
_ZSTANDARD = 93  # the method by which inspect_ai packs an archive's members; Python reads it from 3.14 on
# What zipfile raises for damaged data: also for what then looks encrypted, of a later version, or before the file.
_DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
)
_BACKPORT = "backports.zstd"
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
_STOPS = {"max_tokens": "length", "model_length": "length", "unknown": None}
_ATTACHMENT = "attachment://"


class _UnknownPartError(Exception):
    """A message has a part that is neither text nor image."""


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every sample of a log. Raises RecordingError, OSError."""
    with open(path, "rb"):
        pass  # one that is not there is no archive that was cut off
    if zipfile.is_zipfile(path):
        yield from _archive(path, options)
        return
    if path.endswith(".eval"):
        raise RecordingError(f"{path}: is not a whole archive: the run was cut off, or the copy was; {READS}")
    log = document(path, READS)
    header = _Header(log)
    samples = log.get("samples", list)
    if samples is None:
        raise log.wrong("has no samples; run inspect eval without --no-log-samples")
    # Epochs come in any order; the first is the answer.
    ordered = sorted(
        samples.items(),
        key=lambda s: s.value.get("epoch", 0) if type(s.value) is dict and type(s.value.get("epoch")) is int else 0,
    )
    yield from read_each(ordered, lambda sample: [of_sample(sample, header, options)], options.max_bad)


def _archive(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    try:
        module, errors = _zipfile(path)
        opened = module.ZipFile(path)
    except RecordingError:
        raise
    except _DAMAGED as error:
        raise RecordingError(f"{path}: the archive's list of files is damaged ({error}); copy the file again") from None
    with opened as archive:
        names = set(archive.namelist())
        head = next((n for n in ("header.json", "_journal/start.json") if n in names), None)
        if head is None:
            raise RecordingError(f"{path}: has neither header.json nor _journal/start.json in it; {READS}")

        def member(name: str) -> Field:
            try:
                with archive.open(name) as file:
                    # In small steps: zipfile unpacks all that it has read, except with deflate.
                    message = f"{path}: {name}: {too_large('the file in the archive', MAX_MEMBER_BYTES)}"
                    text = read_at_most(file, MAX_MEMBER_BYTES, message, 4096)
            except UnreadableFileError as error:
                raise RecordingError(str(error)) from None
            except errors as error:
                raise RecordingError(f"{path}: {name}: is damaged ({error}); copy the file again") from None
            return document(f"{path}: {name}", READS, text)

        header = _Header(member(head))

        def samples() -> Iterator[Field | RecordingError]:
            for name in sorted((n for n in names if n.startswith("samples/") and n.endswith(".json")), key=_epoch):
                try:
                    sample: Field | RecordingError = member(name)
                except RecordingError as error:
                    sample = error
                yield sample

        yield from read_each(samples(), lambda sample: [of_sample(sample, header, options)], options.max_bad)


def _epoch(name: str) -> tuple[int, str]:
    number = name.removesuffix(".json").rpartition("_epoch_")[2]
    return int(number) if number.isdigit() else 0, name


def _zipfile(path: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """The module that can unpack an archive, and what it raises for damaged data."""
    with zipfile.ZipFile(path) as archive:
        packed = {info.compress_type for info in archive.infolist()}
    errors = _DAMAGED
    if _ZSTANDARD not in packed:
        return zipfile, errors
    inside, package = ("zipfile", "compression.zstd") if sys.version_info >= (3, 14) else (_BACKPORT + ".zipfile", _BACKPORT)
    try:
        module = import_module(inside)
        return module, (*errors, module.BadZipFile, import_module(package).ZstdError)
    except ModuleNotFoundError:
        raise RecordingError(
            f"{path}: {sentence('a log packed with zstandard', 'backports')}, or rewrite it with "
            "'inspect log convert --to json'"
        ) from None


class _Header:
    """The fields that all samples of a log share."""

    def __init__(self, log: Field) -> None:
        if (version := log.need("version", int).value) != 2:
            raise log.need("version", int).wrong(f"is {version}")
        spec = log.need("eval", dict)
        self.task: str = spec.need("task", str).value.rpartition("/")[2]
        self.model: str = spec.need("model", str).value
        provider, _, self.name = self.model.partition("/")
        # A custom base URL has no list price.
        self.provider = provider if self.name and not spec.value_of("model_base_url", str) else None


def of_sample(sample: Field, header: _Header, options: Options) -> ImportedAnswer | Skipped:
    """One sample's answer."""
    id, epoch = sample.need("id", str, int).value, sample.need("epoch", int).value
    where = f"{sample.where.partition(': ')[0]}: sample {id!r}, epoch {epoch}"
    output = sample.get("output", dict)
    if sample.get("error", dict) is not None:
        return Skipped(where, "the sample ended in an error")
    choices = output.get("choices", list) if output is not None else None
    if output is None or choices is None or not choices.value:
        return Skipped(where, "the model gave no answer")
    if output.get("error", str) is not None:
        return Skipped(where, "the model's provider reported an error")
    try:
        prompt, turns = _prompt(sample)
        example = _example(sample, f"{header.task}-{id}", prompt, header.task)
    except _UnknownPartError as unknown:
        return Skipped(where, f"a message has a part of the type {unknown}, which no prompt of a recording can hold")
    quality, notes = _quality(sample, options)
    if turns > 1:
        notes = (*notes, "the answer is the last of several turns; it is stored with the first prompt")
    return ImportedAnswer(
        example, header.model, _answer(sample, output, header, turns), quality, header.provider, notes=notes
    )


def _example(sample: Field, id: str, messages: list[dict[str, Any]], task: str) -> Example:
    prompt, system = split_messages(messages)
    raw: dict[str, Any] = {}
    if choices := sample.value_of("choices", list):
        raw["choices"] = choices
    if metadata := sample.value_of("metadata", dict):
        raw["metadata"] = metadata
    reference = sample.need("target", str, list).value
    return Example(id, prompt, {}, task=task, system=system, reference=reference, raw=raw)


def _prompt(sample: Field) -> tuple[list[dict[str, Any]], int]:
    """The messages before the first that was generated, and how many were; where a log has none, the sample's input."""
    attachments = sample.value_of("attachments", dict) or {}
    logged = sample.get("messages", list)
    messages = list(logged.items()) if logged is not None else []
    if not messages:
        return _input(sample, attachments), 1
    replies = [i for i, m in enumerate(messages) if m.need("role", str).value == "assistant"]
    generated = [i for i in replies if messages[i].value_of("source", str) == "generate"] or replies[-1:]
    before = messages[: generated[0]] if generated else messages
    if not before:
        raise sample.need("messages", list).wrong("there is no message before the model's first one")
    return [{"role": m.need("role", str).value, "content": _content(m, attachments)} for m in before], len(generated)


def _input(sample: Field, attachments: Mapping[str, Any]) -> list[dict[str, Any]]:
    question = sample.need("input", str, list)
    if isinstance(question.value, str):
        return [{"role": "user", "content": _attached(question.value, attachments)}]
    messages = [{"role": m.need("role", str).value, "content": _content(m, attachments)} for m in question.items()]
    if not messages:
        raise question.wrong("is empty")
    return messages


def _content(message: Field, attachments: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    content = message.need("content", str, list)
    if isinstance(content.value, str):
        return _attached(content.value, attachments)
    parts: list[dict[str, Any]] = []
    for part in content.items():
        kind = part.need("type", str).value
        if kind == "text":
            parts.append({"type": "text", "text": _attached(part.need("text", str).value, attachments)})
        elif kind == "image":
            url = _attached(part.need("image", str).value, attachments)
            parts.append({"type": "image_url", "image_url": {"url": url}})
        else:
            raise _UnknownPartError(kind)
    return parts


def _attached(text: str, attachments: Mapping[str, Any]) -> str:
    """Long texts are stored once, at the end of a sample."""
    content = attachments.get(text.removeprefix(_ATTACHMENT)) if text.startswith(_ATTACHMENT) else None
    return content if isinstance(content, str) else text


def _answer(sample: Field, output: Field, header: _Header, turns: int) -> Answer:
    choices = output.need("choices", list)
    choice = next(choices.items(), None)
    if choice is None:
        raise choices.wrong("is empty")
    message = choice.need("message", dict)
    stop = choice.value_of("stop_reason", str)
    logprobs = choice.get("logprobs", dict)
    tokens = list(logprobs.need("content", list).items()) if logprobs is not None else []
    top = tokens[0].get("top_logprobs", list) if tokens else None
    usage = output.get("usage", dict)
    seconds = output.value_of("time", *NUMBER, low=0)
    if turns > 1:
        by_model = sample.get("model_usage", dict)
        usage, seconds = by_model.get(header.model, dict) if by_model is not None else None, None
    calls = message.get("tool_calls", list)
    return Answer(
        _completion(output, message, sample.value_of("attachments", dict) or {}),
        tool_calls=tuple(_call(c) for c in calls.items()) if calls is not None else (),
        reasoning=_reasoning(message.value),
        finish_reason=_STOPS.get(stop, stop) if stop is not None else None,
        logprobs=tuple(_token(t) for t in tokens) or None,
        first_token_top=dict(_token(t) for t in top.items()) if top is not None else None,
        usage=_usage(usage) if usage is not None else None,
        model=header.name,
        cost_usd=usage.value_of("total_cost", *NUMBER, low=0) if usage is not None else None,
        latency_s=seconds,
    )


def _completion(output: Field, message: Field, attachments: Mapping[str, Any]) -> str:
    """The text of the answer: ``completion``, which newer versions leave out, else the message's text."""
    text = output.value_of("completion", str)
    if not text:
        content = message.get("content", str, list)
        if content is None or isinstance(content.value, str):
            text = "" if content is None else content.value
        else:
            parts = [part for part in content.items() if part.value_of("type", str) == "text"]
            text = "\n".join(part.need("text", str).value for part in parts)
    return _attached(str(text), attachments)


def _reasoning(message: Mapping[str, Any]) -> str | None:
    """A message's thoughts: parts of the type ``reasoning``, in older versions one field; not those that are encrypted."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    thoughts = [
        part.get("summary") if part.get("redacted") else part.get("reasoning")
        for part in parts
        if part.get("type") == "reasoning"
    ]
    texts = [text for text in (*thoughts, message.get("reasoning")) if isinstance(text, str) and text]
    return "\n\n".join(texts) or None


def _call(call: Field) -> dict[str, Any]:
    """A tool call in OpenAI's shape."""
    function = {"name": call.need("function", str).value, "arguments": json.dumps(call.need("arguments", dict).value)}
    return {"id": call.value_of("id", str), "type": "function", "function": function}


def _token(token: Field) -> TokenLogprob:
    return TokenLogprob(token.need("token", str).value, token.need("logprob", *NUMBER).value)


def _usage(usage: Field) -> Usage:
    """inspect_ai leaves the tokens of the provider's cache out of ``input_tokens``."""
    read, wrote = (usage.value_of(f"input_tokens_cache_{did}", int, low=0) or 0 for did in ("read", "write"))
    plain = usage.need("input_tokens", int, low=0).value
    thought = usage.value_of("reasoning_tokens", int, low=0) or 0
    output = usage.need("output_tokens", int, low=0).value
    return Usage(plain + read + wrote, output, cached_tokens=read, cache_write_tokens=wrote, reasoning_tokens=thought)


def _quality(sample: Field, options: Options) -> tuple[float | None, tuple[str, ...]]:
    """The score that was asked for, else the first; SCORER.KEY is a key of a score that has several."""
    scores = sample.get("scores", dict)
    if scores is None and (only := sample.get("score", dict)) is not None:  # the first versions had one score
        scores = replace(sample, value={"score": only.value})
    if scores is None or not scores.value:
        return None, ("not scored: no quality",)
    names = list(scores.value)
    score = options.score or names[0]
    named, _, key = (score, "", "") if score in names else score.partition(".")
    if named not in names:
        return None, (f"no quality: no score is called {options.score!r}, but: {', '.join(names)}",)
    value = scores.need(named, dict).value.get("value")
    if isinstance(value, dict) and key:
        if key not in value:
            return None, (f"no quality: the score {named!r} has no {key!r}, but: {', '.join(value)}",)
        value = value[key]
    notes: tuple[str, ...] = ()
    if len(names) > 1 and options.score is None:
        notes = (f"several scores ({', '.join(names)}): {named!r} was taken; --score names another",)
    quality = to_quality(value)
    if quality is None:
        what = f"an object; --score {named}.KEY takes one of it" if isinstance(value, dict) else "no figure in [0, 1]"
        notes = (*notes, f"no quality: the score {named!r} is {what}")
    return quality, notes


def to_quality(value: Any) -> float | None:
    """inspect_ai's values: C 1, P 0.5, I and N 0; yes, no, true and false; figures in [0, 1]; None for whatever else."""
    if isinstance(value, str):
        if (grade := _GRADES.get(value, _GRADES.get(value.lower()))) is not None:
            return grade
        try:
            value = float(value)
        except ValueError:
            return None
    return unit_score(value)
