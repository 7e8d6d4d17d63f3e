"""The quick check finds valid only what jsonschema finds valid, and finds nearly all of it."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator

from judges.schema.quick_check import QuickCheck, quick_check

NAMES = st.sampled_from(["a", "b", "$ref", "type"])
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
SMALL = st.integers(0, 3)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2, 2.5, -1, 1.0, "", "a", "b", "ccc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas of the keywords that the quick check knows, and of one that it does not."""
    return st.fixed_dictionaries(
        {"type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True)},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "enum": st.lists(st.sampled_from(["a", "b", "", None, 1, True]), min_size=1, unique_by=repr),
            "minimum": SMALL,
            "exclusiveMaximum": SMALL,
            "minLength": SMALL,
            "maxLength": SMALL,
            "minItems": SMALL,
            "maxItems": SMALL,
            "title": st.just("a title"),
            "format": st.just("email"),
        },
    ) | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})


SCHEMAS = st.recursive(
    st.fixed_dictionaries({"type": TYPES})
    | st.sampled_from([{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"$ref": "#/$defs/none"}, {"pattern": "^a"}, True, {}]),
    nodes,
    max_leaves=5,
)
DEFINITIONS = st.fixed_dictionaries({"A": st.fixed_dictionaries({"type": TYPES}), "B": SCHEMAS})
DIALECTS = (Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator)


def checked(schema: Any, dialect: Any = Draft202012Validator) -> QuickCheck:
    """The quick check of a schema that has one."""
    check = quick_check(schema, dialect.VALIDATORS.keys())
    assert check is not None
    return check


@given(SCHEMAS.filter(lambda s: isinstance(s, dict)), DEFINITIONS, st.sampled_from(DIALECTS), st.lists(VALUES, max_size=8))
def test_never_accepts_what_jsonschema_rejects(schema: Any, definitions: Any, dialect: Any, values: list[Any]) -> None:
    """Whatever the schema: a value that is surely valid is valid."""
    whole = {**schema, "$defs": definitions}
    check = quick_check(whole, dialect.VALIDATORS.keys())
    for value in values if check is not None else ():
        if check is not None and check(value):
            assert dialect(whole).is_valid(value)


@given(nodes(nodes(st.fixed_dictionaries({"type": TYPES}))), st.lists(VALUES, max_size=8))
def test_accepts_nearly_what_jsonschema_accepts(schema: Any, values: list[Any]) -> None:
    """Without whole floats and choices that are not texts, the quick check says the same as jsonschema."""
    check = quick_check(schema, Draft202012Validator.VALIDATORS.keys())
    if check is None or '"enum"' in json.dumps(schema):
        return
    for value in values:
        if "1.0" not in json.dumps(value):
            assert check(value) is Draft202012Validator(schema).is_valid(value)


PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"Pet": {"type": "object", "properties": {"kind": {"enum": ["cat", "dog"], "type": "string"}}}},
    "type": "object",
    "title": "Person",
    "properties": {
        "name": {"type": "string", "minLength": 1, "format": "email"},
        "age": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}], "default": None},
        "pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}, "maxItems": 2},
        "score": {"type": ["number", "null"], "maximum": 1},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"name": "x"}, True),
        ({"name": "x", "age": None, "pets": [{"kind": "cat"}, {}], "score": 0.5}, True),
        ({"name": "x", "age": 3, "score": None}, True),
        ({"name": ""}, False),
        ({"age": 3}, False),
        ({"name": "x", "age": -1}, False),
        ({"name": "x", "age": True}, False),
        ({"name": "x", "pets": [{"kind": "cow"}]}, False),
        ({"name": "x", "pets": [{}, {}, {}]}, False),
        ({"name": "x", "other": 1}, False),
        ({"name": "x", "score": 2}, False),
        ([], False),
    ],
)
def test_usual_schema(value: Any, valid: bool) -> None:
    """What pydantic, zod and strict outputs use is covered: all of it is decided at once."""
    assert checked(PERSON)(value) is valid
    assert Draft202012Validator(PERSON).is_valid(value) is valid


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a"},
        {"$defs": {"T": {"type": "array", "items": {"$ref": "#/$defs/T"}}}, "$ref": "#/$defs/T"},
        {"anyOf": [{"type": "object"}, {"type": "array"}]},
        {"type": "object", "properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
        {"type": "object", "unevaluatedProperties": False},
        {"type": "array", "items": {"const": 1}},
        {},
        True,
    ],
)
def test_left_to_jsonschema(schema: Any) -> None:
    """Patterns, recursion, alternatives of containers and rarer keywords have no quick check."""
    assert quick_check(schema, Draft202012Validator.VALIDATORS.keys()) is None


def test_unknown_keywords_are_ignored() -> None:
    """As by jsonschema: draft 6 knows no ``if``."""
    schema = {"type": "integer", "if": False, "x-order": 3}
    assert checked(schema, Draft6Validator)(1)
    assert jsonschema.Draft6Validator(schema).is_valid(1)
    assert quick_check(schema, Draft7Validator.VALIDATORS.keys()) is None
