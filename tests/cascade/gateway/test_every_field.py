"""Every field of the installed SDKs' requests is honoured, or listed as ignored, or refused by its name: never dropped."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, get_type_hints

import pytest
from anthropic.types import message_create_params as messages
from anthropic.types.beta import message_create_params as beta_messages
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from cascade.gateway.anthropic import request as read_message
from cascade.gateway.errors import ApiError
from cascade.gateway.openai import chat as read_chat
from cascade.gateway.openai.responses import request as read_response
from cascade.gateway.request import _IGNORED, _UNSUPPORTED, GatewayRequest

ASK = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CACHE = {"prompt_cache_options": {"mode": "implicit"}, "prompt_cache_retention": "24h"}
HEADERS = {"betas", "user_profile_id", "workspace_id"}  # the SDK sends them as headers

OLDER = {"messages": {"temperature", "top_p", "top_k"}}  # newer models refuse them, and the SDK knows them no more

# A value of each field that asks for something.
CHAT: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"}, "frequency_penalty": 0.5, "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"5": 1}, "logprobs": True, "max_completion_tokens": 9, "max_tokens": 9, "messages": [*ASK, *ASK],
    "metadata": {"a": "b"}, "modalities": ["audio"], "model": "other", "moderation": {"model": "m"}, "n": 2,
    "parallel_tool_calls": False, "prediction": {"type": "content", "content": "x"}, "presence_penalty": 0.5,
    "prompt_cache_key": "k", **CACHE,
    "reasoning_effort": "low", "response_format": {"type": "json_object"}, "safety_identifier": "s", "seed": 3,
    "service_tier": "flex", "stop": ["x"], "store": True, "stream": True, "stream_options": {"include_usage": True},
    "temperature": 0.5, "tool_choice": "required", "tools": [TOOL, TOOL], "top_logprobs": 2, "top_p": 0.5, "user": "u",
    "verbosity": "low", "web_search_options": {},
}  # fmt: skip
RESPONSES: dict[str, Any] = {
    "access_programs": {"cyber": "standard"}, "background": True, "background_options": {"completion_window": "2h"},
    "context_management": [{"type": "compaction"}], "conversation": "c", "image": {"context_compression": "auto"},
    "include": ["reasoning.encrypted_content"], "input": "Ho", "instructions": "Be brief.", "max_output_tokens": 9,
    "max_tool_calls": 3, "metadata": {"a": "b"}, "model": "other", "moderation": {"model": "m"},
    "parallel_tool_calls": False, "previous_response_id": "r", "prompt": {"id": "p"}, "prompt_cache_key": "k", **CACHE,
    "reasoning": {"effort": "low"}, "safety_identifier": "s", "service_tier": "flex",
    "store": True, "stream": True, "stream_options": {"include_obfuscation": True}, "temperature": 0.5,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}, "tool_choice": "required",
    "tools": [{"type": "function", "name": "g"}], "top_logprobs": 2, "top_p": 0.5, "truncation": "auto", "user": "u",
}  # fmt: skip
MESSAGES: dict[str, Any] = {
    "billing_policy": {"type": "billing_policy"}, "cache_control": {"type": "ephemeral"},
    "compaction": {"type": "summarize"},
    "container": "c", "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "diagnostics": {"previous_message_id": "m"}, "fallback_credit_token": "t", "fallbacks": "default", "inference_geo": "eu",
    "max_tokens": 99, "mcp_servers": [{"name": "m"}], "messages": [*ASK, *ASK], "metadata": {"user_id": "u"},
    "model": "other",
    "output_config": {"effort": "low"}, "service_tier": "standard_only", "speed": "fast", "stop_sequences": ["x"],
    "stream": True, "system": "Be brief.", "temperature": 0.5, "thinking": {"type": "adaptive"}, "thread": {"type": "new"},
    "tool_choice": {"type": "any"}, "tools": [{"name": "g", "input_schema": {"type": "object"}}], "top_k": 3, "top_p": 0.5,
}  # fmt: skip

# Fields that name what they need beside them.
NEEDS = {"stream_options": {"stream": True}, "top_logprobs": {"logprobs": True}}

Reader = Callable[[Mapping[str, Any]], GatewayRequest]
BASE: dict[str, tuple[Reader, dict[str, Any], dict[str, Any], list[Any]]] = {
    "chat": (
        read_chat.read,
        {"model": "default", "messages": ASK, "tools": [TOOL]},
        CHAT,
        [chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming],
    ),
    "responses": (
        read_response.read,
        {"model": "default", "input": "Hi", "tools": [{"type": "function", "name": "f"}]},
        RESPONSES,
        [responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming],
    ),
    "messages": (
        read_message.read,
        {"model": "default", "messages": ASK, "max_tokens": 9, "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        MESSAGES,
        [
            *(messages.MessageCreateParamsNonStreaming, messages.MessageCreateParamsStreaming),
            *(beta_messages.MessageCreateParamsNonStreaming, beta_messages.MessageCreateParamsStreaming),
        ],
    ),
}
CASES = [(interface, field) for interface, (_, _, values, _) in BASE.items() for field in values]


@pytest.mark.parametrize("interface", list(BASE))
def test_every_field_of_the_installed_sdks_is_tested_here(interface: str) -> None:
    """A new version of an SDK with a new field fails this test, until it is decided what the field means here."""
    _, _, values, params = BASE[interface]
    assert set(values) - OLDER.get(interface, set()) == {name for kind in params for name in get_type_hints(kind)} - HEADERS


def outcome(interface: str, field: str) -> str:
    """The class of a field: honoured, ignored or refused."""
    read, base, values, _ = BASE[interface]
    needs = NEEDS.get(field, {}) if interface == "chat" else {}
    without = read({**base, **needs})
    try:
        request = read({**base, **needs, field: values[field]})
    except ApiError as error:
        named = error.status == 400 and re.split(r"[.\[]", error.param or "")[0] == field
        return "refused" if named else f"refused without its name: {error.message}"
    unused = {name.partition(".")[0] for name in request.unused}
    same = {"body", "unused"}  # the repeated body is no effect
    effects = {k: v for k, v in asdict(request).items() if k not in same and v != asdict(without)[k]}
    if unused:
        assert unused == {field}
        assert not effects
        return "ignored"
    assert effects, f"{field} has no effect and is not listed"
    return "honoured"


@pytest.mark.parametrize(("interface", "field"), CASES)
def test_a_field_is_in_exactly_one_class(interface: str, field: str) -> None:
    """Honoured: it changes what is run. Ignored: it is listed, and changes nothing. Refused: the error names it."""
    assert outcome(interface, field) in ("honoured", "ignored", "refused")


def test_the_classes_are_those_of_the_documentation() -> None:
    """The fields that have no effect, and those that are refused."""
    classes: dict[str, dict[str, set[str]]] = {name: {} for name in BASE}
    for interface, field in CASES:
        classes[interface].setdefault(outcome(interface, field), set()).add(field)
    assert classes["chat"]["ignored"] == {
        "prediction",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "store",
    }
    assert classes["chat"]["refused"] == {
        "audio",
        "function_call",
        "functions",
        "modalities",
        "moderation",
        "web_search_options",
    }
    assert classes["messages"]["ignored"] == {"diagnostics", "fallback_credit_token", "fallbacks", "service_tier", "speed"}
    assert classes["messages"]["refused"] == {
        *("billing_policy", "compaction", "container", "inference_geo", "mcp_servers", "thread"),
    }
    assert classes["responses"]["ignored"] == {
        *(
            "access_programs",
            "context_management",
            "image",
            "max_tool_calls",
            "prompt_cache_options",
            "prompt_cache_retention",
        ),
        *("service_tier", "store", "stream_options", "truncation"),
    }
    assert classes["responses"]["refused"] == {
        *("background", "background_options", "conversation", "moderation", "previous_response_id", "prompt"),
    }


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_model_that_is_called_without_a_field_does_not_also_refuse_it(provider: str) -> None:
    """The two tables of a provider have nothing in common."""
    assert not _UNSUPPORTED[provider] & _IGNORED[provider]
