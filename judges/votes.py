"""What an answer votes for: a key that is equal for answers that say the same, and how far two answers agree.

Tool calls are compared by name and arguments, JSON objects field by field, all else by ``equivalence``.
"""

import asyncio
import json
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from .equivalence import LONGEST, canonical_json, key
from .schema.keywords import PatternTimeout, ValidationTimeout
from .types import Answer

EMPTY = ("empty",)
_DEEPEST = 20
_MOST_VALUES = 500  # of a JSON object that are compared one by one: 20 ms at worst
_LONG = 2_000  # characters: after reading a longer answer, other work gets its turn


@dataclass(frozen=True, slots=True)
class Vote:
    """What one answer says.

    Attributes:
        key: Equal for answers that say the same.
        fields: For a JSON object the key of each field, without those that only lead to the answer.
    """

    key: Hashable
    fields: Mapping[str, Hashable] | None = None

    @property
    def is_free_text(self) -> bool:
        """Whether the answer is neither a tool call, nor JSON, a number, a date or a choice."""
        return isinstance(self.key, tuple) and self.key[0] in ("text", "written")

    def similarity(self, other: "Vote") -> float:
        """How far the two agree, in [0, 1]: 1 where they say the same; for JSON objects the share of equal fields, or 0."""
        if self.key == other.key:
            return 1.0
        if self.fields is None or other.fields is None:
            return 0.0
        names = self.fields.keys() | other.fields.keys()
        equal = sum(
            name in self.fields and name in other.fields and self.fields[name] == other.fields[name] for name in names
        )
        return equal / len(names)


def cluster_key(answer: Answer) -> Hashable:
    """The key of an answer as it stands after its judges: of its tool calls where it has some, else of its text.

    A schema's judge has put the JSON in the place of the text already, so that nothing is validated again.
    """
    if answer.tool_calls:
        return ("tools", *sorted(map(_call_key, answer.tool_calls)))
    return key(answer.text, "auto") if answer.text.strip() else EMPTY


async def vote_of(answer: Answer, schema: Any = None, kind: str = "auto") -> Vote:
    """What an answer votes for.

    Args:
        answer: The answer.
        schema: The prompt's schema; the JSON that it accepts is then what is compared.
        kind: A kind of ``equivalence``; ``auto`` compares JSON objects field by field.
    """
    vote_key = await answer_key(answer, schema, kind)
    if kind != "auto" or not isinstance(vote_key, tuple) or vote_key[0] != "json":
        return Vote(vote_key)
    if len(vote_key[1]) > LONGEST:
        return Vote(vote_key)
    value = json.loads(vote_key[1])
    if not isinstance(value, dict) or not value or _has_more_values(value, _MOST_VALUES):
        return Vote(vote_key)
    fields = {name: _field_key(item, _DEEPEST) for name, item in value.items()}
    return Vote(("fields", tuple(sorted(fields.items(), key=lambda field: field[0]))), fields)


async def answer_key(answer: Answer, schema: Any = None, kind: str = "auto") -> Hashable:
    """The key of an answer: of its tool calls, in any order, where it has some, else of its text; ``EMPTY`` for neither."""
    if answer.tool_calls:
        return ("tools", *sorted(map(_call_key, answer.tool_calls)))
    if not answer.text.strip():
        return EMPTY
    if len(answer.text) > _LONG:
        await asyncio.sleep(0)  # at the first pause, what has become due is queued behind this task
        await asyncio.sleep(0)
    return key(await _json_text(answer.text, schema) if schema is not None else answer.text, kind)


def _has_more_values(value: Any, most: int) -> bool:
    """Whether a JSON value holds more than ``most`` values at any depth."""
    level, count = [value], 0
    while level and count <= most:
        count += len(level)
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return count > most


def _field_key(value: Any, depth: int) -> Hashable:
    """The key of one field: texts by ``equivalence``, lists and objects item by item."""
    if isinstance(value, str):
        return key(value, "auto")
    if depth and isinstance(value, list):
        return ("list", *(_field_key(item, depth - 1) for item in value))
    if depth and isinstance(value, dict):
        return ("object", *((name, _field_key(value[name], depth - 1)) for name in sorted(value)))
    if isinstance(value, bool) or value is None or not isinstance(value, int | float):
        return ("json", canonical_json(value))
    return key(str(value), "auto")  # a number says the same as its text


async def _json_text(text: str, schema: Any) -> str:
    """The JSON that the schema judge would read out of the text, or the text where it would find none.

    Like that judge, it does large work elsewhere where ``offload`` is set.
    """
    from .schema import find_valid_json
    from .schema.offload import is_small, offload

    if len(text) > LONGEST:
        return text
    send = offload.get()
    if send is not None and isinstance(schema, Mapping) and not is_small(schema, text):
        outcome = await send(schema, text, {})
        return text if outcome.veto is not None or outcome.text is None else outcome.text
    try:
        match, _, errors = find_valid_json(text, schema)
    except (ValueError, RecursionError, PatternTimeout, ValidationTimeout, OverflowError):
        return text
    return text if errors else match.text


def _call_key(call: Mapping[str, Any]) -> str:
    """A tool call without its id, which differs on every sample, and with its arguments as canonical JSON."""
    function = call.get("function", call)
    if isinstance(function, Mapping):
        function = {k: v for k, v in function.items() if k not in ("id", "index", "call_id")}
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            function["arguments"] = key(arguments, "json")
    return canonical_json(function) or json.dumps(repr(function))
