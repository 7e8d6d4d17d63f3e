"""Graders of JSON: equality, credit per field, validity."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import judges
from judges import Answer
from judges.equivalence import canonical_json
from judges.reading import find_json
from judges.schema import InvalidSchemaError, SchemaJudge, find_valid_json

from .protocol import GraderError, GradingCase


@dataclass(frozen=True, slots=True)
class JsonGrader:
    """1 where the JSON in the reply equals the reference; with ``credit: fields`` the share of its fields that do.

    JSON is read out of the reply as the schema judge reads it; of an answer of tool calls alone they are the JSON, each as
    {"name": ..., "arguments": ...}, a single one without a list around. A reference that is text is read as JSON. A field
    is a path to a value that is not an object; the share is of all paths in either, so that an invented field costs as much
    as a missing one.
    """

    credit: str = "all"
    name: str = "json"
    version: str = "3"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        if self.credit not in ("all", "fields"):
            raise GraderError(f"json: credit must be all or fields, got {self.credit!r}")

    def check(self, reference: Any) -> None:
        """Raises GraderError if the reference is not JSON."""
        _gold(reference)

    def grade(self, case: GradingCase) -> float | None:
        """A reply without JSON is wrong."""
        gold = _gold(case.reference)
        try:
            answer = _calls(case.tool_calls) if case.tool_calls and not case.text.strip() else _json_of(case)
        except (ValueError, RecursionError):
            return 0.0
        if self.credit == "all" or not isinstance(gold, Mapping) or not isinstance(answer, Mapping):
            return float(_same(answer, gold))
        gold_fields, answer_fields = dict(_fields(gold)), dict(_fields(answer))
        paths = gold_fields.keys() | answer_fields.keys()
        if not paths:
            return 1.0
        right = sum(p in gold_fields and p in answer_fields and _same(gold_fields[p], answer_fields[p]) for p in paths)
        return right / len(paths)


def _json_of(case: GradingCase) -> Any:
    """The JSON in the reply as the schema judge reads it. Raises ValueError, RecursionError."""
    if case.prompt.schema is not None:
        with suppress(InvalidSchemaError):
            return find_valid_json(case.text, case.prompt.schema)[0].value
    return find_json(case.text).value


def _gold(reference: Any) -> Any:
    gold = reference
    if isinstance(reference, str):
        try:
            gold = json.loads(reference)
        except (ValueError, RecursionError) as error:
            reason = f"{reference[:80]!r} is not JSON ({error}); see text for the grader of words"
            raise GraderError(f"reference: {reason}") from None
    if canonical_json(gold) is None:
        raise GraderError(
            f"reference: {str(gold)[:80]!r} holds what JSON does not allow (NaN, say), or is nested too deeply"
        )
    return gold


def _calls(calls: Sequence[Mapping[str, Any]]) -> Any:
    parsed = []
    for call in calls:
        function = call.get("function", call)
        arguments = function.get("arguments")
        parsed.append({
            "name": function.get("name"), "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments,
        })  # fmt: skip
    return parsed[0] if len(parsed) == 1 else parsed


def _same(a: Any, b: Any) -> bool:
    # As text, because in Python 1 == True == 1.0.
    one, two = canonical_json(a), canonical_json(b)
    return one is not None and one == two


def _fields(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping) and item and len(path) < 50:
            yield from _fields(item, (*path, str(name)))
        else:
            yield (*path, str(name)), item


@dataclass(frozen=True, slots=True)
class SchemaGrader:
    """1 where the reply is valid against the example's schema. It does not check that the answer is right."""

    name: str = "schema"
    version: str = "1"
    needs_reference: bool = False
    waits: bool = False

    def check(self, reference: Any) -> None:
        """Uses no reference."""

    def grade(self, case: GradingCase) -> float | None:
        """None if the example has no schema, or the answer consists of tool calls only."""
        judged = judges.JudgeInput(prompt=case.prompt, answer=Answer(case.text, tool_calls=case.tool_calls))
        if case.prompt.schema is None or (case.tool_calls and not case.text.strip()):
            return None
        try:
            return float(not SchemaJudge().validate(judged).veto)
        except InvalidSchemaError as error:
            raise GraderError(f"schema: {error}; correct the example's schema") from None


def as_text(reference: Any) -> str:
    """A reference as a reader would see it."""
    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False, default=str)
