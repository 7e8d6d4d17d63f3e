"""Results of promptfoo: ``promptfoo eval --output results.json``.

A test with a prompt is an example; a provider's label, else its id, the model; repeats are further samples. Cost, time and
tokens are the provider's own, and unknown where promptfoo answered from its cache.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from evals.recording import Example, RecordingError
from judges import Answer, Usage

from .base import ImportedAnswer, Options, Skipped, split_messages, unit_score
from .fields import MOST, NUMBER, Field, document
from .records import lines, read_each

READS = (
    "read are results of version 3, written as .json or .jsonl by 'promptfoo eval --output results.json' (promptfoo 0.1xx)"
)
_ERROR = 2  # promptfoo's failureReason where the provider, not the answer, failed
# How promptfoo writes a thought of Anthropic's before the answer.
_SIGNED_THOUGHT = re.compile(r"Thinking: (.*?)\nSignature: \S+\s*", re.DOTALL)
# How it writes that of other providers: nothing says where the thought ends but a blank line.
_THOUGHT = "Thinking: "
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def items(path: str, options: Options) -> Iterator[ImportedAnswer | Skipped]:
    """Every result. Raises RecordingError, OSError."""
    yield from read_each(_results(path), lambda result: [of_result(result, options)], options.max_bad)


def _results(path: str) -> Iterator[Field | RecordingError]:
    """The results of a .json or a .jsonl file."""
    if path.removesuffix(".gz").endswith(".jsonl"):
        yield from lines(path, READS)
        return
    results = document(path, READS).need("results", dict)
    if (version := results.need("version", int)).value != 3:
        raise version.wrong(f"is {version.value}")
    yield from results.need("results", list).items()


def of_result(result: Field, options: Options) -> ImportedAnswer | Skipped:
    """One answer of one provider to one test."""
    test, provider = result.need("testIdx", int).value, result.need("provider", dict)
    model = provider.value_of("label", str) or provider.need("id", str).value
    where = f"{result.where}: test {test}, prompt {result.need('promptIdx', int).value}, {model}"
    response = result.get("response", dict)
    if result.value_of("failureReason", *NUMBER) == _ERROR or response is None or response.value.get("error"):
        return Skipped(where, "the provider failed")
    # A provider's refusal to take the request comes as an answer with the error's text.
    if (status := _status(response)) is not None and status >= 400:
        return Skipped(where, f"the provider failed (HTTP {status})")
    output = response.value.get("output")
    if output is None:
        return Skipped(where, "no text")
    cached = bool(response.value_of("cached", bool))
    quality, notes = _quality(result, options)
    if cached:
        notes = (*notes, "answered from promptfoo's cache: cost, time and tokens are unknown; --no-cache measures them")
    values = _logprobs(response)
    try:
        answer = _answer(result, response, output, cached)
    except _UndividedError:
        return Skipped(where, "a thought of several paragraphs is not divided from the answer; use showThinking: false")
    return ImportedAnswer(
        _example(result, options),
        model,
        answer,
        quality,
        more={"token_logprobs": values} if values else {},
        notes=notes,
    )


def _status(response: Field) -> int | None:
    metadata = response.get("metadata", dict)
    http = metadata.get("http", dict) if metadata is not None else None
    return http.value_of("status", int) if http is not None else None


def _example(result: Field, options: Options) -> Example:
    raw_prompt = result.need("prompt", dict).need("raw", str).value
    case = result.get("testCase", dict)
    variables = result.value_of("vars", dict) or {}
    prompt, system = raw_prompt, None
    if raw_prompt.lstrip().startswith("["):
        try:
            messages = json.loads(raw_prompt)
        except (ValueError, RecursionError):
            messages = None
        if messages and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in messages):
            prompt, system = split_messages(messages)
    raw: dict[str, Any] = {"vars": variables} if variables else {}
    if case is not None and (described := case.value_of("description", str)):
        raw["description"] = described
    # The numbers of tests and prompts count repeats and providers, too: only the prompts distinguish examples.
    content = json.dumps([raw_prompt, variables], sort_keys=True).encode()
    id = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Example(id, prompt, {}, system=system, reference=_reference(case, variables, options), raw=raw)


def _reference(case: Field | None, variables: dict[str, Any], options: Options) -> Any:
    """The variable that holds the right answer, else what an assertion says that the answer equals."""
    if (named := variables.get(options.reference)) is not None:
        return named
    asserted = case.get("assert", list) if case is not None else None
    for one in asserted.items() if asserted is not None else ():
        if one.value_of("type", str) == "equals" and isinstance(value := one.value.get("value"), str):
            return _VARIABLE.sub(lambda match: str(variables.get(match[1], match[0])), value)
    return None


def _split(text: str) -> tuple[str, list[str]]:
    """The answer and the thoughts in an output.

    Raises _UndividedError where a thought of several paragraphs is followed by an answer, and nothing divides them.
    """
    thoughts = []
    while (thought := _SIGNED_THOUGHT.match(text)) is not None:
        thoughts.append(thought[1])
        text = text[thought.end() :]
    if thoughts or not text.startswith(_THOUGHT):
        return text, thoughts
    paragraphs = text.removeprefix(_THOUGHT).strip().split("\n\n")
    for i in range(1, len(paragraphs)):
        answer = "\n\n".join(paragraphs[i:])
        if len(paragraphs) == 2 or _is_json(answer):
            return answer, ["\n\n".join(paragraphs[:i])]
    if len(paragraphs) > 1:
        raise _UndividedError
    return text, []


class _UndividedError(Exception):
    """Where a thought ends cannot be known."""


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _answer(result: Field, response: Field, output: Any, cached: bool) -> Answer:
    usage = None if cached else response.get("tokenUsage", dict)
    values = _logprobs(response)
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    text, thoughts = _split(text)
    # The result's own cost is 0 where it is unknown; the response's is absent then.
    return Answer(
        text,
        reasoning="\n\n".join(thoughts) or None,
        finish_reason=response.value_of("finishReason", str),
        mean_logprob=sum(values) / len(values) if values else None,
        usage=_usage(usage) if usage is not None else None,
        cost_usd=None if cached else response.value_of("cost", *NUMBER, low=0),
        latency_s=None if cached or (ms := result.value_of("latencyMs", *NUMBER, low=0)) is None else ms / 1000,
    )


def _logprobs(response: Field) -> list[float]:
    values = response.get("logProbs", list)
    # A certain token's log-probability may come out a hair above 0.
    return [min(0.0, value.between(-MOST, 1e-3)) for value in values.items()] if values is not None else []


def _usage(usage: Field) -> Usage | None:
    counts = [usage.value_of(name, int, low=0) for name in ("prompt", "completion")]
    if counts[0] is None or counts[1] is None:
        return None
    details = usage.get("completionDetails", dict)
    read, wrote, thought = (
        (details.value_of(name, int, low=0) or 0) if details is not None else 0
        for name in ("cacheReadInputTokens", "cacheCreationInputTokens", "reasoning")
    )
    return Usage(counts[0], counts[1], cached_tokens=read, cache_write_tokens=wrote, reasoning_tokens=thought)


def _quality(result: Field, options: Options) -> tuple[float | None, tuple[str, ...]]:
    """The result's score, or a named one; none where nothing was asserted, since promptfoo then passes whatever came."""
    if options.score is not None:
        named = result.value_of("namedScores", dict) or {}
        if options.score not in named:
            return None, (f"no quality: no score is called {options.score!r}",)
        return unit_score(named[options.score]), ()
    grading = result.get("gradingResult", dict)
    if grading is None or not (grading.value.get("componentResults") or ()):
        return None, ("no quality: nothing was asserted",)
    score = result.get("score", *NUMBER)
    if score is None:
        return None, ("no quality: the score is null",)
    quality = unit_score(score.value)
    return quality, () if quality is not None else ("no quality: the score is not in [0, 1]",)
