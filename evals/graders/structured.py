"""Graders of JSON: equality, credit a field, validity."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import judges
from judges import Answer
from judges.equivalence import canonical_json
from judges.schema import SchemaJudge, extract_json

from .grader import Case, GraderError


@dataclass(frozen=True, slots=True)
class JsonGrader:
    """1 where the JSON in the reply equals the reference; with ``credit: fields`` the share of its fields that do.

    JSON is read out of the reply as the schema judge reads it. A field is a path to a value that is no object; the share is
    of all paths in either, so that an invented field costs as much as a missing one.
    """

    credit: str = "all"
    name: str = "json"
    version: str = "2"
    needs_reference: bool = True
    waits: bool = False

    def __post_init__(self) -> None:
        if self.credit not in ("all", "fields"):
            raise GraderError(f"json: credit must be all or fields, got {self.credit!r}")

    def grade(self, case: Case) -> float | None:
        """A reply without JSON is wrong."""
        try:
            said = extract_json(case.text)
        except (ValueError, RecursionError):
            return 0.0
        gold = case.reference
        if self.credit == "all" or not isinstance(gold, Mapping) or not isinstance(said, Mapping):
            return float(_same(said, gold))
        wanted, given = dict(_fields(gold)), dict(_fields(said))
        paths = wanted.keys() | given.keys()
        if not paths:
            return 1.0
        right = sum(p in wanted and p in given and _same(wanted[p], given[p]) for p in paths)
        return right / len(paths)


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
    """1 where the reply is valid against the example's schema. It says nothing of being right."""

    name: str = "schema"
    version: str = "1"
    needs_reference: bool = False
    waits: bool = False

    def grade(self, case: Case) -> float | None:
        """None where the example has no schema."""
        if case.prompt.schema is None:
            return None
        verdict = SchemaJudge().judge(judges.Case(prompt=case.prompt, answer=Answer(case.text)))
        return float(not verdict.veto)


def as_text(reference: Any) -> str:
    """A reference as a reader would see it."""
    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False, default=str)
