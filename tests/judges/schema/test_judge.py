"""JSON out of answers, checked against JSON Schema or pydantic models, with bounded work and no network."""

import json
import socket
from datetime import date
from time import process_time
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from judges import Answer, JudgeInput, Prompt, Verdict, make
from judges.reading import find_json
from judges.schema import InvalidSchemaError, SchemaJudge, checker, json_schema_of

NEWEST = "https://json-schema.org/draft/2020-12/schema"
ORDER = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "required": ["items"],
    "$defs": {"item": {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 1}}, "required": ["qty"]}},
}
HANGS = "^(a|a)*$"  # exponential for `re` and for `regex`
VICTIM = "a" * 40 + "!"

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
containers = st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=5), values, max_size=4)


class Item(BaseModel):
    """A model with a bound and a value that JSON writes as text."""

    model_config = ConfigDict(strict=True)
    qty: int = Field(ge=1)
    day: date = date(2020, 1, 1)


def run(text: str, prompt_schema: Any, **options: Any) -> Verdict:
    return SchemaJudge(**options).judge(JudgeInput(prompt=Prompt.of("q", schema=prompt_schema), answer=Answer(text)))


def reason(text: str, schema: Any) -> str:
    verdict = run(text, schema)
    assert verdict.veto
    assert verdict.answer is None
    return verdict.reason


def parsed(text: str, schema: Any) -> Any:
    verdict = run(text, schema)
    assert not verdict.veto, verdict.reason
    assert verdict.answer is not None
    assert verdict.answer.text in text
    return verdict.answer.parsed


def test_valid_fills_parsed() -> None:
    """A valid answer comes back with its value, without a score."""
    assert parsed('{"items": [{"qty": 2}]}', ORDER) == {"items": [{"qty": 2}]}
    assert run("{}", {}).score is None


def test_reasons_name_the_path() -> None:
    """The first three errors, each with where it is."""
    text = json.dumps({"items": [{"qty": -1}, {}, {"qty": "x"}, {"qty": 0}]})
    assert reason(text, ORDER) == (
        "$.items[0].qty: -1 is less than the minimum of 1; $.items[1]: 'qty' is a required property; "
        "$.items[2].qty: 'x' is not of type 'integer'"
    )


def test_reasons_are_short() -> None:
    """A huge value or key does not make a huge reason."""
    assert len(reason(json.dumps("x" * 500_000), {"type": "integer"})) < 200
    assert len(reason(json.dumps({"k" * 500_000: 1}), {"additionalProperties": {"type": "string"}})) < 400


def test_not_applicable() -> None:
    """Without a schema, or with tool calls alone, there is no verdict."""
    assert run("no JSON", None) == Verdict("schema")
    answer = Answer(" ", tool_calls=({"function": {"name": "f"}},))
    assert SchemaJudge().judge(JudgeInput(prompt=Prompt.of("q", schema=ORDER), answer=answer)) == Verdict("schema")


def test_option_goes_before_the_prompt() -> None:
    """The judge's own schema goes before the prompt's."""
    assert run("1", {"type": "string"}, schema={"type": "integer"}).veto is False
    assert run("1", None, schema={"type": "string"}).veto
    assert make("schema", schema=ORDER) == SchemaJudge(ORDER)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("\ufeff [1]\n", [1]),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        ('```\n{"a": "``` inside"}\n```', {"a": "``` inside"}),
        ('```json\n{"a": 1}', {"a": 1}),
        ('```python\nx = {}\n```\n```json\n{"a": 1}\n```', {"a": 1}),
        ('The answer is {"a": [1, {"b": 2}]}. I hope {that} helps.', {"a": [1, {"b": 2}]}),
        ('For [each one] of {them}: {"a": 1}', {"a": 1}),
        ('The set {"a", "b"} gives {"c": 1}', {"c": 1}),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_extract(text: str, value: Any) -> None:
    """JSON alone, in a fence, in prose."""
    assert find_json(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        '{"a": NaN, "b": {"c": 1}}',
        '{"a": [{"b": 1}], "c',
        '[{"a": 1},]',
    ],
)
def test_no_json(text: str) -> None:
    """What is not strict JSON is refused whole: a value inside a broken one is not the answer."""
    with pytest.raises(ValueError, match="no JSON found"):
        find_json(text)
    assert reason(text, {}).startswith("$: no JSON found")


def test_too_long_or_deep() -> None:
    """Size and depth are bounded."""
    assert run("[1]", {}, max_chars=2).reason == "$: longer than 2 characters"
    assert reason("[" * 100_000, {}) == "$: too deeply nested"
    tree = {"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}}
    assert reason("[" * 900 + "]" * 900, tree) == "$: too deeply nested"
    with pytest.raises(ValueError, match="max_chars"):
        SchemaJudge(max_chars=0)


def test_draft_by_its_name() -> None:
    """$schema chooses the draft: items as a list is draft 7's."""
    items = [{"type": "integer"}, {"type": "string"}]
    assert reason("[1, 2]", {"$schema": "http://json-schema.org/draft-07/schema#", "items": items}).startswith("$[1]")
    with pytest.raises(InvalidSchemaError, match=r"\$\.items"):
        run("[1, 2]", {"$schema": NEWEST, "items": items})


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, r"\$\.type"),
        ({"properties": {"a": {"minimum": "1"}}}, r"\$\.properties\.a\.minimum"),
        ({"pattern": "("}, "regular expression"),
        ({"patternProperties": {"(": {}}}, "regular expression"),
        ({"$ref": "#/x", "x": {"pattern": "("}}, "regular expression"),
        ({"$ref": "#/nowhere"}, "never fetched"),
        ({"$ref": "other.json"}, "never fetched"),
        ({"const": {1, 2}}, "not JSON serializable|not a JSON Schema"),
        (int, "a schema is"),
        ("{}", "a schema is"),
    ],
)
def test_invalid_schema(schema: Any, words: str) -> None:
    """The caller's mistake is an error that says where, not a veto."""
    with pytest.raises(InvalidSchemaError, match=words):
        run('"text"', schema)


def test_frozen_mapping() -> None:
    """A schema may be any mapping."""
    schema = MappingProxyType({"properties": MappingProxyType({"a": MappingProxyType({"type": "integer"})})})
    assert reason('{"a": "x"}', schema).startswith("$.a")


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$id", "$schema"])
def test_never_fetches(keyword: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address in a schema is ever connected to."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        schema = {keyword: f"http://127.0.0.1:{server.getsockname()[1]}/s.json", "type": "string"}
        for each in (schema, {"items": schema}):
            if keyword.endswith("ef"):
                with pytest.raises(InvalidSchemaError, match="never fetched"):
                    run("[1]", each)
            else:
                assert run("[1]", each).veto
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"pattern": HANGS}},
        {"$schema": NEWEST, "items": {"$schema": NEWEST, "pattern": HANGS}},
        {"items": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": HANGS}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "items": {"$ref": "#/definitions/a"},
            "definitions": {"a": {"pattern": HANGS}},
        },
        {"$schema": NEWEST, "anyOf": [{"type": "string", "pattern": HANGS}, {"type": "array", "items": {"$ref": "#"}}]},
        {"items": {"not": {"pattern": HANGS}}},
    ],
)
def test_evil_pattern(schema: Any) -> None:
    """A pattern that would run for ages is a veto within the time limit, anywhere in a schema."""
    start = process_time()
    assert reason(json.dumps([VICTIM] * 100), schema) == "$: a pattern took too long"
    assert reason(json.dumps(["a" * 40 + "!"]), {"items": {"pattern": "^(a+)+$"}})
    assert process_time() - start < 5


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {HANGS: True}},
        {"patternProperties": {HANGS: True}, "additionalProperties": False},
        {"patternProperties": {HANGS: True}, "unevaluatedProperties": False},
        {"allOf": [{"patternProperties": {HANGS: True}}], "unevaluatedProperties": False},
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$recursiveRef": "#",
            "patternProperties": {HANGS: True},
        },
        {"propertyNames": {"pattern": HANGS}},
    ],
)
def test_evil_pattern_of_keys(schema: Any) -> None:
    """Keys are matched under the same limit."""
    start = process_time()
    assert run(json.dumps({VICTIM: 1}), schema).veto
    assert process_time() - start < 5


@pytest.mark.parametrize("hostile", ['{"a', "[x", "```", '{"', "[" + " " * 50, "{ ", "[1 ", '\\"{"', "1", "-"])
def test_hostile_text(hostile: str) -> None:
    """Extraction takes time linear in the text."""
    start = process_time()
    assert run((hostile * 500_000)[:500_000], ORDER).veto
    assert process_time() - start < 5


def test_pydantic() -> None:
    """A model class gives an instance, as from JSON, or reasons with paths."""
    assert parsed('Sure: {"qty": 2, "day": "2024-02-29"}', Item) == Item(qty=2, day=date(2024, 2, 29))
    assert reason('{"qty": 0, "day": "x"}', Item).startswith("$.qty: Input should be greater than or equal to 1; $.day: ")
    assert "recursion" in reason("[" * 500 + "]" * 500, Item)


def test_json_schema_of() -> None:
    """Providers get a mapping either way."""
    assert json_schema_of(ORDER) == ORDER
    assert json_schema_of(Item)["properties"]["qty"]["minimum"] == 1
    with pytest.raises(InvalidSchemaError):
        json_schema_of("text")


def test_compiled_once() -> None:
    """The same schema, and an equal one, are compiled once; the store is bounded."""
    assert checker(ORDER) is checker(ORDER)
    assert checker(ORDER) is checker(json.loads(json.dumps(ORDER)))
    for i in range(300):
        assert run(str(i), {"const": i}).veto is False
        assert run(str(i), {"const": i + 1}).veto


@given(st.text() | st.text('{}[]",:`\\1aeN \n'), st.sampled_from([ORDER, Item, {}]))
def test_any_text(text: str, schema: Any) -> None:
    """No text raises: it is valid or a veto with a reason."""
    verdict = run(text, schema)
    assert verdict.veto is (verdict.answer is None)
    assert verdict.veto is bool(verdict.reason)


@given(values, st.booleans())
def test_round_trip(value: Any, ascii_only: bool) -> None:
    """Any JSON value comes out of the bare text and out of a fence."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert find_json(text).value == value
    assert find_json(f"Here you are:\n```json\n{json.dumps(value)}\n```\nDone.").value == value or "```" in text


@given(containers)
def test_round_trip_in_prose(value: Any) -> None:
    """Any object or array comes out of prose around it."""
    assert find_json(f"Well, [so it is] then: {json.dumps(value)} - {{done}}.").value == value
