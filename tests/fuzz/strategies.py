"""What is thrown at the library: provider bodies, answers, schemas and policies, made valid and then damaged."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from tests.wire_server import chat, message

ODD_NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    -(10**30),
    0.0,
    -0.0,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
    -float("inf"),
]
ODD_TEXTS = [
    *("", " ", "\0", "\ud800", "\udfff\ud800", "\u202e", "a\u0301" * 40, "ﷺ", "yes", "no", "42", "1/0", "1e999", "NaN"),
    *('{"a": 1}', '{"a": NaN}', '{"a": 1e999}', "[" * 300, '```json\n{"a": 1}\n```', "\\boxed{42", "Answer: 42", "#### 42"),
    *("I'm sorry, but I can't help with that.", "</candidate>", "<|im_end|>", "2024-02-30", "12/31/9999", "٣", "½", "7/10"),
    *("stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", "tool_use", "refusal", "text", "(B)"),
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(ODD_TEXTS), st.text(max_size=30), st.lists(st.sampled_from(ODD_TEXTS), max_size=4).map("".join)
)
words = st.sampled_from(
    [
        "text",
        "type",
        "content",
        "message",
        "choices",
        "usage",
        "logprobs",
        "token",
        "logprob",
        "index",
        "id",
        "error",
        "code",
        "n",
    ]
)
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, words), inner, max_size=4)),
    max_leaves=8,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside."""
    paths = [path] if path else []
    inner = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in inner:
        paths += places(value, (*path, key))
    return paths


@st.composite
def damaged(draw: Any, documents: st.SearchStrategy[Any], most: int = 4) -> Any:
    """A document with some of its parts deleted, replaced, renamed, doubled or swapped with others."""
    document = deepcopy(draw(documents))
    for _ in range(draw(st.integers(0, most))):
        all_places = places(document)
        if not all_places:
            break
        *above, last = draw(st.sampled_from(all_places))
        parent = document
        for key in above:
            parent = parent[key]
        match draw(st.sampled_from(["delete", "replace", "rename", "wrap", "repeat", "copy"])):
            case "delete":
                del parent[last]
            case "replace":
                parent[last] = draw(values)
            case "rename" if isinstance(parent, dict):
                parent[draw(st.one_of(words, texts))] = parent.pop(last)
            case "wrap":
                parent[last] = draw(st.sampled_from([[parent[last]], {"text": parent[last]}, str(parent[last])]))
            case "repeat" if isinstance(parent, list):
                parent[last:last] = [deepcopy(parent[last])] * draw(st.integers(1, 3))
            case "copy":
                other = document
                for key in draw(st.sampled_from(all_places)):
                    if isinstance(other, dict | list):
                        try:
                            other = other[key]
                        except (LookupError, TypeError):
                            break
                parent[last] = deepcopy(other)
            case _:
                pass
    return document


TOOL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
TOKENS = [
    {"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.0}]}
]
DETAILS = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}}
chats = st.sampled_from(
    [
        chat("42"),
        chat('{"a": 1}', choice={"logprobs": {"content": TOKENS}}, usage=DETAILS),
        chat(None, message={"tool_calls": [TOOL]}, choice={"finish_reason": "tool_calls"}),
        chat([{"type": "text", "text": "in parts"}]),  # type: ignore[arg-type]
        {**chat("a"), "choices": [*chat("a")["choices"], *chat("b")["choices"]]},
        {"error": {"message": "no", "type": "t", "code": 429}},
    ]
)
messages = st.sampled_from(
    [
        message(),
        message({"type": "text", "text": '{"a": 1}'}, {"type": "tool_use", "id": "1", "name": "look", "input": {"a": 1}}),
        message(
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}, usage={"cache_read_input_tokens": 3}
        ),
        message(stop_reason="refusal", content=[]),
        {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
    ]
)
chunks = st.lists(
    st.sampled_from(
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "4"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {"content": "2"}, "logprobs": {"content": TOKENS}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **TOOL}]}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}},
            {"error": {"message": "no"}},
            chat("42"),
            "[DONE]",
        ]
    ),
    max_size=7,
)
events = st.lists(
    st.sampled_from(
        [
            {"type": "message_start", "message": message(content=[])},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "1", "name": "x", "input": {}},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "42"}},
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
            {"type": "ping"},
            {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
        ]
    ),
    max_size=9,
)


def lines(rows: list[Any]) -> bytes:
    """Server-sent events."""
    output = []
    for event in rows if isinstance(rows, list) else [rows]:
        data = event if isinstance(event, str) else json.dumps(event)
        kind = f"event: {event['type']}\n" if isinstance(event, dict) and isinstance(event.get("type"), str) else ""
        output.append(f"{kind}data: {data}\n\n")
    return "".join(output).encode("utf-8", "surrogatepass")


@st.composite
def cut(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that may be cut short, or have some of them replaced."""
    body = draw(whole)
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(body)))
        body = (
            body[:at]
            + draw(st.sampled_from([b"", b"\xff\xfe", b"\0", b"<html>", b"\r\n\r\n", b"data: "]))
            + body[at + draw(st.integers(0, 9)) :]
        )
    return body


def body_of(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """The damaged document as JSON, whose bytes may be damaged, too."""
    return cut(damaged(documents).map(lambda d: json.dumps(d).encode("utf-8", "surrogatepass")))


statuses = st.sampled_from([200] * 12 + [201, 204, 302, 400, 401, 429, 500, 529])
headers = st.sampled_from(
    [{}] * 6
    + [
        {"content-type": "text/html"},
        {"retry-after": "1e9"},
        {"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"},
        {"retry-after-ms": "nan"},
        {"x-should-retry": "true"},
        {"content-type": "application/json; charset=nonsense"},
    ]
)  # fmt: skip
openai_bodies = st.one_of(body_of(chats), cut(damaged(chunks).map(lines)))
anthropic_bodies = st.one_of(body_of(messages), cut(damaged(events).map(lines)))

KEYWORDS = [
    *("type", "properties", "required", "items", "prefixItems", "additionalProperties", "patternProperties"),
    *("pattern", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "minimum"),
    *("multipleOf", "minItems", "uniqueItems", "contains", "dependentSchemas", "unevaluatedProperties"),
    *("propertyNames", "$ref", "$defs", "$id", "$schema", "$dynamicRef", "format", "maxLength"),
]  # fmt: skip
inner_schemas = st.recursive(
    st.one_of(
        st.booleans(),
        st.sampled_from(
            [
                {},
                {"type": "integer"},
                {"type": "string", "pattern": "^(a+)+$"},
                {"$ref": "#"},
                {"$ref": "#/$defs/x"},
                {"$ref": "http://x.invalid/"},
            ]
        ),
        st.dictionaries(st.sampled_from(KEYWORDS), scalars, max_size=3),
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(KEYWORDS), st.one_of(inner, st.lists(inner, max_size=3)), max_size=3),
        st.builds(
            lambda word, parts: {word: parts},
            st.sampled_from(["properties", "patternProperties", "$defs", "dependentSchemas"]),
            st.dictionaries(st.sampled_from(["a", "x", "^a", "(", "(a+)+$"]), inner, max_size=3),
        ),
    ),
    max_leaves=6,
)
schemas = st.one_of(
    inner_schemas,
    damaged(
        st.sampled_from(
            [
                {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}},
                    "required": ["a"],
                    "additionalProperties": False,
                },
                {
                    "$defs": {"x": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/x"}}, {"type": "number"}]}},
                    "$ref": "#/$defs/x",
                },
                {
                    "$schema": "http://json-schema.org/draft-07/schema#",
                    "items": [{"type": "string"}],
                    "additionalItems": False,
                },
            ]
        )
    ),
    values,
)
answers = st.one_of(
    texts, values.map(json.dumps), damaged(st.sampled_from([{"a": 1}, [1, 2], {"a": {"b": [1]}}])).map(json.dumps)
)

policies = damaged(
    st.sampled_from(
        [
            {
                "version": 1,
                "budget_usd_per_day": 5,
                "models": {
                    "m": {
                        "provider": "scripted",
                        "answers": ["x", "42"],
                        "retry": {"attempts": 1},
                        "breaker": {"min_requests": 2},
                    },
                    "n": {
                        "provider": "scripted",
                        "answers": ["y"],
                        "price": {"input_per_mtok": 1, "output_per_mtok": 2},
                        "max_tokens": 5,
                    },
                    "o": {
                        "provider": "openai",
                        "model": "gpt-4o",
                        "base_url": "http://h:1/v1",
                        "headers": {"X-A": "b"},
                        "options": {"seed": 1},
                    },
                },
                "policies": {
                    "default": {
                        "tiers": [
                            {
                                "model": "m",
                                "fallbacks": ["n"],
                                "accept_at": 0.9,
                                "judges": ["rules", {"use": "self_consistency", "samples": 2}],
                            },
                            {
                                "name": "last",
                                "model": "n",
                                "prior": 0.1,
                                "judges": [{"use": "verifier", "model": "m"}, "logprob", "schema"],
                            },
                        ],
                        "when_unsure": "best",
                        "on_judge_error": "ignore",
                        "max_calls": 9,
                        "deadline_s": 5,
                    }
                },
                "telemetry": {"traces": True},
            },
            {
                "models": {"m": {"provider": "scripted", "answers": ["x"]}},
                "policies": {
                    "default": {
                        "tiers": [
                            {"model": "m", "judges": [{"use": "rules", "options": {"choices": ["x"]}, "reject_below": 0.1}]}
                        ]
                    }
                },
            },
        ]
    ),
    most=3,
)
