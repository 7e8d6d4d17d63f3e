"""Whatever is sent is read or refused: no value of any field is a fault of the gateway."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.gateway.anthropic import request as messages
from cascade.gateway.errors import ApiError, anthropic_shape, openai_shape
from cascade.gateway.openai import chat
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump
from cascade.gateway.routes import native_api
from cascade.gateway.validation import json_object, not_deep

WORDS = st.sampled_from(
    ["type", "text", "role", "user", "assistant", "tool", "content", "image_url", "url", "function", "name", "parameters",
     "json_schema", "schema", "tool_calls", "id", "arguments", "tool_call_id", "source", "base64", "tool_use", "tool_result",
     "input", "input_schema", "budget_usd", "include_usage", "format", "data:image/png;base64,x", "object", "$ref", "\ud800"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": VALUES})


def outcome(read: Callable[[Any], Any], value: Any) -> Any:
    """What was read, or why it was not."""
    try:
        return read(value)
    except ApiError as error:
        return error


@pytest.mark.parametrize("interface", [chat, messages], ids=["chat", "messages"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_field(interface: Any, data: st.DataObject) -> None:
    """It is understood, or refused with a 400 that names the field in both shapes."""
    fields = st.dictionaries(st.sampled_from(sorted(interface._READERS)), VALUES, max_size=4)
    good = {"model": "default", "max_tokens": 5, "messages": data.draw(st.lists(MESSAGE, min_size=1, max_size=3))}
    body = {**good, **data.draw(fields)}
    result = outcome(interface.read, body)
    if isinstance(result, GatewayRequest):
        assert result.prompt.messages
        return
    assert result.status == 400
    assert result.param
    for shape in (openai_shape, anthropic_shape):
        assert dump(shape(result))


@given(st.fixed_dictionaries({"prompt": VALUES}, optional=dict.fromkeys(("policy", "system", "schema", "tags"), VALUES)))
@settings(max_examples=150, deadline=None)
def test_any_value_of_the_short_way(body: dict[str, Any]) -> None:
    """The same."""
    if body["prompt"] is not None:
        result = outcome(native_api._request, body)
        assert isinstance(result, GatewayRequest) or (result.status == 400 and result.param)


@given(st.binary(max_size=60) | VALUES.map(lambda value: dump(value)))
@settings(max_examples=150, deadline=None)
def test_any_bytes(raw: bytes) -> None:
    """An object or a 400."""
    result = outcome(json_object, raw)
    assert isinstance(result, dict) or result.status == 400


@given(st.integers(1, 200))
@settings(deadline=None)
def test_depth(levels: int) -> None:
    """What is nested deeper than 64 is refused, and only that."""
    value: Any = 1
    for i in range(levels):
        value = [value] if i % 2 else {"a": value}
    if levels <= 63:
        assert not_deep(value, "x") is value
    elif levels >= 65:
        with pytest.raises(ApiError, match="nested deeper"):
            not_deep(value, "x")
