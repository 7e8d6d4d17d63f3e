"""The rewritten keywords of JSON Schema say what jsonschema's own say, in bounded time."""

import json
from time import process_time
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from judges import Answer, JudgeInput, Prompt, Verdict
from judges.schema import SchemaJudge

NEWEST = "https://json-schema.org/draft/2020-12/schema"
NAMES = st.sampled_from(["a", "b", "ab", "c"])


def run(text: str, schema: Any) -> Verdict:
    return SchemaJudge().judge(JudgeInput(prompt=Prompt.of("q", schema=schema), answer=Answer(text)))


def test_unique_items_is_fast() -> None:
    """Many objects are compared in linear time, with JSON Schema's equality."""
    many = json.dumps([{"a": i} for i in range(30_000)])
    start = process_time()
    assert not run(many, {"uniqueItems": True}).veto
    assert process_time() - start < 5
    assert not run('[1, true, "1", [1], [true], {"a": 0}, {"a": false}]', {"uniqueItems": True}).veto
    assert run('[{"a": 1}, {"a": 1.0}]', {"uniqueItems": True}).veto


small = st.dictionaries(NAMES, st.sampled_from([0, 1, 1.0, True, "a", "b", None, [1, 1], [1, True]]), max_size=3)
leaves = st.sampled_from([True, False, {}, {"type": "integer"}, {"pattern": "^a"}, {"const": 1}, {"uniqueItems": True}])
schemas = st.recursive(
    leaves,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "propertyNames": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "if": inner,
            "then": inner,
            "else": inner,
            "not": inner,
            "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
        },
    ),
    max_leaves=6,
).filter(lambda s: isinstance(s, dict))


@given(schemas, small, st.sampled_from([NEWEST, "http://json-schema.org/draft-07/schema#"]))
def test_agrees_with_jsonschema(schema: dict[str, Any], value: Any, draft: str) -> None:
    """The rewritten keywords say what jsonschema's own say."""
    schema = {"$schema": draft, **schema}
    stock = jsonschema.validators.validator_for(schema)(schema)
    assert run(json.dumps(value), schema).veto is not stock.is_valid(value)
