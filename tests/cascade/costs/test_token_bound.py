"""The estimate of a prompt's tokens is never below the bytes that are really sent."""

import json
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade.costs.estimate import Bounds
from cascade.costs.token_bound import IMAGE_TOKENS, prompt_tokens, text_tokens
from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec
from judges import Prompt

TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["", "ༀ་" * 40, "ﷺ" * 20, "12345" * 30, "𒀀𒀁" * 20, "漢字" * 30, '\\"\n\t' * 20, "😀" * 20, "x" * 3000]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS,
    st.sampled_from([1e15, 1e22, 1.5e-300, 123456789012345680.0]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=6
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
PARTS = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, TEXTS),
    st.builds(lambda t, more: {"type": "text", "text": t, "cache_control": more}, TEXTS, OBJECTS),
    st.builds(lambda t: {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "note": t}, TEXTS),
    st.builds(lambda t: {"type": "file", "file": {"file_data": t, "filename": t}}, TEXTS),
    st.builds(lambda t: {"type": "input_audio", "input_audio": {"data": t, "format": "wav"}}, TEXTS),
)
CONTENTS = st.one_of(TEXTS, st.lists(PARTS, max_size=3))
# The forms in which a client may write the same JSON: the shortest spaces, and numbers with exponents.
ARGUMENTS = st.one_of(
    OBJECTS.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)),
    st.lists(st.sampled_from(["1e15", "1E9", "2e-5", "1.0", "7"]), max_size=40).map(lambda ns: f'{{"a":[{",".join(ns)}]}}'),
)
CALLS = st.lists(
    st.builds(
        lambda i, name, arguments: {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}},
        TEXTS, TEXTS, ARGUMENTS,
    ),
    min_size=1, max_size=3,
)  # fmt: skip
EXTRA = st.dictionaries(st.sampled_from(["refusal", "name", "reasoning_content", "audio", "x"]), VALUES, max_size=3)
ROLES = st.sampled_from(["system", "developer", "user", "assistant"])
MESSAGES = st.one_of(
    st.builds(lambda role, content, more: {**more, "role": role, "content": content}, ROLES, CONTENTS, EXTRA),
    st.builds(lambda calls, more: {**more, "role": "assistant", "content": None, "tool_calls": calls}, CALLS, EXTRA),
    st.builds(lambda i, content: {"role": "tool", "tool_call_id": i, "content": content}, TEXTS, CONTENTS),
)
SCHEMAS = st.recursive(
    st.builds(lambda kind, more: {**more, "type": kind}, st.sampled_from(["string", "integer", "number"]),
              st.dictionaries(st.sampled_from(["description", "pattern", "minimum", "x"]), TEXTS, max_size=2)),
    lambda inner: st.one_of(
        st.builds(lambda p: {"type": "object", "properties": p}, st.dictionaries(TEXTS, inner, max_size=3)),
        st.builds(lambda i: {"type": "array", "items": i, "minItems": 3}, inner),
        st.builds(lambda v: {"anyOf": v}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)  # fmt: skip
TOOLS = st.lists(
    st.builds(lambda name, about, schema: {"type": "function",
                                           "function": {"name": name, "description": about, "parameters": schema}},
              TEXTS, TEXTS, SCHEMAS),
    max_size=2,
)  # fmt: skip
PROMPTS = st.builds(
    lambda messages, tools, schema: Prompt(tuple(messages), schema, tuple(tools)),
    st.lists(MESSAGES, min_size=1, max_size=4), TOOLS, st.none() | SCHEMAS,
)  # fmt: skip
OPTIONS = st.dictionaries(st.sampled_from(["user", "prediction", "system", "stop", "metadata"]), OBJECTS | TEXTS, max_size=2)
# What the protocols write around what a caller gives; a model reads a few special tokens in its place.
# fmt: off
FRAME = {
    "role", "content", "type", "text", "user", "assistant", "tool_result",
    "tool_use", "input", "function", "tool_calls", "tool_use_id", "tool_call_id", "messages",
    "system", "model", "max_tokens", "max_completion_tokens", "tools", "response_format", "json_schema",
    "output_config", "format", "input_schema", "parameters", "stop_sequences", "source", "media_type",
    "base64", "image/png", "AAAA",
}
# fmt: on


def sent_bytes(value: Any) -> int:
    """The bytes of all names, texts and numbers in a body, but those of the protocol itself; an image counts 0 here."""
    if isinstance(value, dict):
        return sum(_bytes(k) + sent_bytes(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return sum(map(sent_bytes, value))
    return _bytes(value) if isinstance(value, str) else len(json.dumps(value))


def _bytes(text: str) -> int:
    return 0 if text in FRAME or text.startswith("data:image") else len(text.encode("utf-8", "surrogatepass"))


MODELS = [
    kind(name="m", model="", api_key="k", structured=structured)
    for kind in (OpenAIModel, AnthropicModel)
    for structured in ("json_schema", "json_object")
]


@settings(max_examples=150, deadline=None)
@given(PROMPTS, OPTIONS, OPTIONS)
def test_no_byte_that_is_sent_is_left_out(prompt: Prompt, of_model: dict[str, Any], of_request: dict[str, Any]) -> None:
    """Over all shapes of messages, by both providers, in whatever field the bytes are."""
    spec = ModelSpec.model_validate({"provider": "openai", "options": of_model})
    most = Bounds.of(spec).usage(prompt, n=1, max_tokens=5, options=of_request).input_tokens
    for model in MODELS:
        model.options = of_model
        assert sent_bytes(model.body(prompt, Request(options=of_request))) <= most


@pytest.mark.parametrize("field", ["refusal", "name", "reasoning_content", "whatever_comes_next", "tool_call_id", "role"])
def test_a_megabyte_in_any_field_counts(field: str) -> None:
    """Not only in those that hold the content."""
    message = {"role": "assistant", "content": "hi", field: "a" * 1_000_000}
    assert prompt_tokens(Prompt((message, {"role": "user", "content": "go on"}))) > 1_000_000


# Characters that expand, compose or change their order where others are beside them.
_RESTLESS = st.text(
    st.sampled_from("a\u00e9\u0301\u0323\u0316\u0327\u1100\u1161\u11a8\uff76\uff9e\ufdfa\u3316\u00bd\u01d5"), max_size=300
)


@example("0\u00c8\uff9e\u032300")  # what begins a piece is a mark in its compatibility form only
@given(st.text(max_size=300) | _RESTLESS)
def test_a_text_has_no_more_tokens_than_bytes(text: str) -> None:
    """Nor than the bytes of its compatibility form, which some vocabularies are of."""
    text *= 3 if len(text) % 2 else 25_000 // max(1, len(text))  # in pieces, and as a long text
    forms = (text, normalize("NFKC", text))
    assert text_tokens(text) >= max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


def test_ordinary_text_is_not_estimated_higher_than_its_bytes() -> None:
    """A budget reserves no more than the bound asks for."""
    assert prompt_tokens(Prompt.of("x" * 10_000)) <= 10_000 + 160


def test_an_image_counts_by_its_own_amount_and_what_is_beside_it_by_its_bytes() -> None:
    """However large the image's own data are."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert prompt_tokens(Prompt(({"role": "user", "content": [image]},))) < IMAGE_TOKENS + 200
    hidden = {**image, "text": "a" * 50_000}
    assert prompt_tokens(Prompt(({"role": "user", "content": [hidden]},))) > IMAGE_TOKENS + 50_000


def test_numbers_that_are_written_anew_count_in_their_longest_form() -> None:
    """A tool call's arguments are parsed for Anthropic: five bytes become eighteen."""
    arguments = f'{{"a":[{",".join(["1e15"] * 2000)}]}}'
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    prompt = Prompt(({"role": "assistant", "content": None, "tool_calls": [call]},))
    body = AnthropicModel(name="m", model="x", api_key="k").body(prompt, Request())
    assert len(json.dumps(body)) > 3 * len(arguments)
    assert prompt_tokens(prompt) >= len(json.dumps(body))


def test_what_a_client_library_adds_to_a_schema_counts() -> None:
    """It closes every object."""
    schema = {"type": "object", "properties": {f"{i}": {"type": "object", "properties": {}} for i in range(200)}}
    prompt = Prompt.of("q", schema=schema)
    body = AnthropicModel(name="m", model="x", api_key="k").body(prompt, Request())
    assert len(json.dumps(body)) > 1.3 * len(json.dumps(schema))
    assert prompt_tokens(prompt) >= len(json.dumps(body))
