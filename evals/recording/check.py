"""Checks the fields of a recorded answer; errors name the field."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

# Float rounding in providers makes a certain token's log-probability come out a hair above 0.
_LOGPROB_SLACK = 1e-6


class RecordingError(ValueError):
    """A recording that cannot be used; the message names file, line and field, and says what to do."""


_SIMPLE = frozenset({"text", "quality", "cost_usd", "latency_s", "logprob", "finish_reason"})


def plain(answer: Mapping[str, Any]) -> bool:
    """True for the common answer of known-good simple fields, so that big files are not slowed by the full check."""
    if not _SIMPLE.issuperset(answer):
        return False
    get = answer.get
    quality, usd, seconds, logprob = get("quality"), get("cost_usd"), get("latency_s"), get("logprob")
    return (
        ((finish := get("finish_reason")) is None or type(finish) is str)
        and (quality is None or (type(quality) is float and 0.0 <= quality <= 1.0))
        and (usd is None or (type(usd) is float and 0.0 <= usd < 1e300))
        and (seconds is None or (type(seconds) is float and 0.0 <= seconds < 1e300))
        and (logprob is None or (type(logprob) is float and -1e300 < logprob <= 0.0))
    )


def check_answer(answer: Any, where: str) -> None:
    """Raises RecordingError if the answer at ``where`` is invalid."""
    if type(answer) is not dict:
        raise RecordingError(f"{where}: must be an object, got {type_word(answer)}")
    if type(answer.get("text")) is not str:
        kind = type_word(answer["text"]) if "text" in answer else "nothing"
        raise RecordingError(f"{where}.text: must be text, got {kind}")
    _number(answer.get("quality"), f"{where}.quality", 0.0, 1.0, "; use null for an answer that is not graded")
    _number(answer.get("logprob"), f"{where}.logprob", None, _LOGPROB_SLACK, "; it is the mean natural logarithm")
    for name in ("cost_usd", "sample_cost_usd", "latency_s"):
        _number(answer.get(name), f"{where}.{name}", 0.0, None, "; use null where it is unknown")
    for name in ("usage", "verdicts", "verdict_cost_usd"):
        part = answer.get(name)
        if part is None:
            continue
        if type(part) is not dict:
            raise RecordingError(f"{where}.{name}: must be an object, got {type_word(part)}")
        high = 1.0 if name == "verdicts" else None
        for key, value in part.items():
            _number(value, f"{where}.{name}.{key}", 0.0, high, "; leave it out where it is unknown")
    _texts_and_calls(answer, where)
    for name in ("token_logprobs", "samples"):
        items = answer.get(name)
        if items is None:
            continue
        if type(items) is not list:
            raise RecordingError(f"{where}.{name}: must be a list, got {type_word(items)}")
        if name == "samples":
            for i, sample in enumerate(items):
                if type(sample) is not dict or type(sample.get("text")) is not str or not plain(sample):
                    check_answer(sample, f"{where}.samples[{i}]")
            continue
        # One fast check for the common case; a sum that contains NaN or -inf fails every comparison.
        if items and set(map(type, items)) == {float} and max(items) <= 0.0 and sum(items) > -1e300:
            continue
        for i, value in enumerate(items):
            if type(value) is not float or not -1e300 < value <= 0.0:
                if value is None:
                    raise RecordingError(f"{where}.token_logprobs[{i}]: must be a number, got null")
                _number(value, f"{where}.token_logprobs[{i}]", None, _LOGPROB_SLACK, "; it is a natural logarithm")


def _texts_and_calls(answer: Mapping[str, Any], where: str) -> None:
    tokens, calls, top = (answer.get(n) for n in ("tokens", "tool_calls", "first_token_top"))
    for name in ("finish_reason", "reasoning", "refusal"):
        if (value := answer.get(name)) is not None and type(value) is not str:
            raise RecordingError(f"{where}.{name}: must be text, got {type_word(value)}")
    for name, items, kind in (("tokens", tokens, str), ("tool_calls", calls, dict)):
        if items is None:
            continue
        if type(items) is not list:
            raise RecordingError(f"{where}.{name}: must be a list, got {type_word(items)}")
        if not {kind}.issuperset(map(type, items)):
            i = next(i for i, one in enumerate(items) if type(one) is not kind)
            raise RecordingError(f"{where}.{name}[{i}]: must be {_KINDS[kind]}, got {type_word(items[i])}")
    if top is not None:
        if type(top) is not dict:
            raise RecordingError(f"{where}.first_token_top: must be an object, got {type_word(top)}")
        for token, value in top.items():
            if value is None:
                raise RecordingError(f"{where}.first_token_top.{token}: must be a number, got null")
            _number(value, f"{where}.first_token_top.{token}", None, 1e-3, "; it is a natural logarithm")


def _number(value: Any, where: str, low: float | None, high: float | None, remedy: str) -> None:
    if value is None:
        return
    if type(value) not in (int, float):
        raise RecordingError(f"{where}: must be a number, got {type_word(value)}{remedy}")
    # Whole numbers may be too large for a float, which isfinite() does not survive.
    if not -1e300 < value < 1e300 or (low is not None and value < low) or (high is not None and value > high):
        span = f"in [{low:g}, {high:g}]" if low is not None and high is not None else ">= 0" if high is None else "<= 0"
        text = repr(value)
        value_text = text if len(text) <= 40 else f"a number of {len(text)} digits"
        raise RecordingError(f"{where}: must be a number {span}, got {value_text}{remedy}")


def type_word(value: Any) -> str:
    """The type of a JSON value, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def type_words(kinds: tuple[type, ...]) -> str:
    """The allowed types of a JSON value, in words."""
    return " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)


_KINDS: dict[type, str] = {
    str: "text",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def no_number(line: Mapping[str, Any]) -> RecordingError:
    """The error about an example that cannot be written, with the field whose value JSON cannot represent."""
    field = next(_no_numbers(line, ""), "a field").removeprefix(".")
    return RecordingError(
        f"id {line['id']!r}: {field}: is NaN or infinite, which JSON has not; use null where a number is unknown"
    )


def _no_numbers(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, one in inner:
        yield from _no_numbers(one, f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}")
