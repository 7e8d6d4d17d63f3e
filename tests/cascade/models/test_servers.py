"""What servers do otherwise than OpenAI: shapes of errors, names of fields, fixed temperatures, log-probabilities, keys."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from cascade import PolicyError
from cascade.models.adaptation import Adaptation
from cascade.models.anthropic import AnthropicModel
from cascade.models.error_body import error_code, error_message
from cascade.models.factory import build
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from cascade.policy.load import parse
from cascade.policy.schema import ModelSpec
from judges import Prompt
from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message, sse

HOT = Request(temperature=0.7, max_tokens=9)


def ask(server: WireServer, *requests: Request, kind: Any = OpenAIModel, stream: bool = False, **options: Any) -> list[Any]:
    """The answers of one model to requests in turn; an error is raised."""
    base_url = f"{server.base_url}/v1" if kind is OpenAIModel else server.base_url

    async def go() -> list[Any]:
        model = kind(name="m", model="x", **{"base_url": base_url, "api_key": "k", **options})
        answers = []
        try:
            for request in requests or (Request(),):
                if stream:
                    answers.append([chunk async for chunk in model.stream(Prompt.of("hi"), request)][-1].answer)
                else:
                    answers += await model.answer(Prompt.of("hi"), request)
        finally:
            await model.close()
        return answers

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "code": "c"}}, "m"),
        ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], "m"),
        ({"error": "m"}, "m"), ("m", "m"), ({"message": "m"}, "m"), ({"object": "error", "message": "m", "code": 403}, "m"),
        ({"detail": "m"}, "m"), ({"detail": [{"loc": ["body", "n"], "msg": "m", "input": "the prompt"}]}, "body.n: m"),
        ({"error": {"error": {"message": "m"}}}, "m"), ({"errors": [{"message": "a"}, {"message": "b"}]}, "a; b"),
        ({"error": {"message": {"detail": [{"msg": "m", "loc": ["n"]}]}}}, "n: m"), (["m"], "m"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "why"}}}, "Provider returned error; why"),
        ({"Message": "m"}, ""), (None, ""), (5, ""), ([], ""), ({"error": {"code": 3}}, ""), ({"error": []}, ""),
    ],
)  # fmt: skip
def test_error_bodies(server: WireServer, body: Any, expected: str) -> None:
    """Lists, texts, nested ones: the message is found, and what the server repeats of the request is not in it."""
    assert error_message(body) == expected
    server.reply = Reply(body, status=400)
    with pytest.raises(ModelError) as raised:
        ask(server)
    assert str(raised.value) == f"m: HTTP 400{f': {expected}' if expected else ''}" or not isinstance(body, dict | list)


def test_error_codes(server: WireServer) -> None:
    """A code that no try changes is found in a list, too."""
    body = [{"error": {"message": "m", "code": "insufficient_quota"}}]
    assert error_code(body) == "insufficient_quota"
    server.reply = Reply(body, status=429)
    with pytest.raises(ModelError) as raised:
        ask(server)
    assert not raised.value.retryable
    deep: Any = "m"
    for _ in range(100):
        deep = {"error": [deep]}
    assert error_message(deep) == ""


def picky(words: str, name: str, status: int = 400, **more: Any) -> Any:
    """A server that refuses requests with the field ``name``, in these words."""

    def reply(received: Received) -> Reply:
        if name in received.body:
            return Reply({"error": {"message": words, **more}}, status=status)
        body = message() if "messages" in received.path else chat()
        return Reply(events=chat_events(body)) if received.body.get("stream") else Reply(body)

    return reply


TEMPERATURE = [
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
    "Unsupported parameter: 'temperature' is not supported with this model.",
    "invalid temperature: only 1 is allowed for this model",
    "temperature: Extra inputs are not permitted",
    "`temperature` is deprecated for this model.",
    "Unrecognized request argument supplied: temperature",
    "Temperature must be 1 for this model",
]


@pytest.mark.parametrize("words", TEMPERATURE)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fixed_temperature(server: WireServer, caplog: pytest.LogCaptureFixture, words: str, stream: bool) -> None:
    """Found by the first error 400, remembered, expected once."""
    server.reply = picky(words, "temperature")
    with caplog.at_level(logging.WARNING, "cascade.models"):
        answers = ask(server, HOT, HOT, Request(), HOT, stream=stream)
    assert [a.text for a in answers] == ["hello"] * 4
    assert [a.extra["ignored"] for a in answers] == [("temperature",)] * 4
    assert ["temperature" in r.body for r in server.received] == [True, False, False, False, False]
    assert len(caplog.records) == 1


def test_a_fixed_temperature_at_anthropic(server: WireServer) -> None:
    """Alike."""
    server.reply = picky("`temperature` is deprecated for this model.", "temperature", type="invalid_request_error")
    ask(server, HOT, HOT, kind=AnthropicModel)
    assert ["temperature" in r.body for r in server.received] == [True, False, False]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("temperature must be between 0 and 2", 400), ("Expected a value <= 2 for temperature, not supported", 400),
        ("`temperature` and `top_p` cannot both be specified for this model.", 400),
        ("`temperature` may only be set to 1 when thinking is enabled", 400), ("the room's temperature", 400),
        ("Unsupported parameter: 'temperature'", 500), ("max_tokens is too large: this model supports at most 16", 400),
    ],
)  # fmt: skip
def test_other_errors_teach_nothing(server: WireServer, words: str, status: int) -> None:
    """A value out of range is the request's fault, and is expected as it is."""
    server.reply = picky(words, "temperature", status)
    with pytest.raises(ModelError, match=f"HTTP {status}"):
        ask(server, HOT)
    assert len(server.received) == 1


def test_the_name_of_max_tokens(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    """By the server's address, by the setting, and by what the server says."""
    for base_url, name in (
        (None, "max_completion_tokens"), ("https://x.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://x.services.ai.azure.com/openai/v1", "max_completion_tokens"), ("http://localhost:8000/v1", "max_tokens"),
        ("https://api.mistral.ai/v1", "max_tokens"), ("https://notazure.com/v1", "max_tokens"),
    ):  # fmt: skip
        model = OpenAIModel(name="m", model="x", base_url=base_url, max_tokens=5)
        assert [k for k in model.body(Prompt.of("hi"), Request()) if k.startswith("max")] == [name]
    ask(server, max_tokens_field="max_completion_tokens", max_tokens=3)
    assert server.received.pop().body["max_completion_tokens"] == 3
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    server.reply = picky(words, "max_tokens")
    with caplog.at_level(logging.WARNING, "cascade.models"):
        ask(server, HOT, HOT)
    assert [r.body.get("max_completion_tokens") for r in server.received] == [None, 9, 9]
    assert len(caplog.records) == 1
    server.received.clear()
    server.reply = picky("body.max_completion_tokens: Extra inputs are not permitted", "max_completion_tokens", 422)
    ask(server, HOT, HOT, max_tokens_field="max_completion_tokens")
    assert [r.body.get("max_tokens") for r in server.received] == [None, 9, 9]


def test_a_server_that_knows_neither_name_ends() -> None:
    """Each adaptation is learnt once, so that requests are not repeated endlessly."""
    adaptation = Adaptation("m", "max_tokens")
    error = ModelError("m: HTTP 400: Unknown: max_tokens, max_completion_tokens, temperature", model="m", status=400)
    assert [adaptation.learn(error) for _ in range(3)] == [True, False, False]


TOGETHER = {"tokens": ["he", "llo"], "token_ids": [1, 2], "token_logprobs": [-0.1, -0.2]}


@pytest.mark.parametrize(
    ("logprobs", "values", "top"),
    [
        (TOGETHER, [-0.1, -0.2], {}), ({**TOGETHER, "top_logprobs": [{"he": -0.1, "she": -3.0}, {}]}, [-0.1, -0.2],
                                       {"he": -0.1, "she": -3.0}),
        ({**TOGETHER, "token_logprobs": [None, -0.2]}, None, {}), ({**TOGETHER, "tokens": ["he"]}, None, None),
        ({"content": None}, None, None), ({"content": []}, None, None), ({}, None, None), (None, None, None),
    ],
)  # fmt: skip
def test_log_probabilities_side_by_side(server: WireServer, logprobs: Any, values: Any, top: Any) -> None:
    """Together's and Fireworks' lists are tokens like OpenAI's; what does not fit is unknown."""
    server.reply = Reply(chat("hello", choice={"logprobs": logprobs}))
    (answer,) = ask(server, Request(logprobs=True))
    assert (None if answer.logprobs is None else [t.logprob for t in answer.logprobs]) == values
    if values:
        assert [t.token for t in answer.logprobs] == ["he", "llo"]
        assert (answer.first_token_top or {}) == top


def test_streamed_log_probabilities(server: WireServer) -> None:
    """A number beside each token, or lists."""
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    for pieces in (
        [-0.1, -0.2],
        [{"tokens": ["he"], "token_logprobs": [-0.1]}, {"tokens": ["llo"], "token_logprobs": [-0.2]}],
    ):
        deltas = [
            {"choices": [{"delta": {"content": text}, "logprobs": p}]} for text, p in zip(("he", "llo"), pieces, strict=True)
        ]  # type: ignore[arg-type]
        server.reply = Reply(events=sse(*deltas, end, "[DONE]"))
        (answer,) = ask(server, stream=True)
        assert [(t.token, t.logprob) for t in answer.logprobs] == [("he", -0.1), ("llo", -0.2)]


def test_together_counts_alternatives() -> None:
    """There ``logprobs`` is a number; elsewhere it is a flag."""
    for base_url, expected in (
        ("https://api.together.xyz/v1", 5),
        ("https://api.together.ai/v1", 5),
        ("http://localhost/v1", True),
    ):
        body = OpenAIModel(name="m", model="x", base_url=base_url).body(Prompt.of("hi"), Request(logprobs=True))
        assert (body["logprobs"], "top_logprobs" in body) == (expected, expected is True)
        body = OpenAIModel(name="m", model="x", base_url=base_url, logprobs=True).body(Prompt.of("hi"), Request())
        assert body["logprobs"] == (1 if expected == 5 else True)


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected", "sent"),
    [(CLOSED, None, True), (CLOSED, True, True), (CLOSED, False, False), ({"type": "object"}, None, None),
     ({"type": "object"}, True, True), ({"type": "object"}, False, False)],
)  # fmt: skip
def test_strict_is_the_clients_to_say(schema: Any, expected: Any, sent: Any) -> None:
    """Where it does not, a schema that allows it is enforced."""
    body = OpenAIModel(name="m", model="x").body(Prompt.of("hi", schema=schema), Request(strict=expected))
    assert body["response_format"]["json_schema"].get("strict") is sent


ADDRESSES = [
    ("openai", "https://api.example.com/v1/chat/completions", "leave /chat/completions out"),
    ("openai", "https://api.example.com/v1/chat/completions/", "leave /chat/completions out"),
    ("openai", "https://api.example.com/v1/Chat/Completions", "leave /chat/completions out"),
    ("openai", "https://api.example.com/v1/completions", "leave /completions out"),
    ("openai", "https://api.example.com/v1/responses", "leave /responses out"),
    ("openai", "https://api.example.com/v1/embeddings", "leave /embeddings out"),
    ("openai", "https://api.example.com/v1/models", "leave /models out"),
    ("openai", "https://api.example.com/v1/messages", "leave /messages out"),
    ("openai", "https://x.openai.azure.com/openai/v1?api-version=preview", "query"),
    ("openai", "https://api.example.com/v1#x", "fragment"),
    ("openai", "https://api.example.com/v1 ", "character"),
    ("openai", "https://api.example.com/v1'", "character"),
    ("anthropic", "https://api.example.com/v1/messages", "leave /v1/messages out"),
    ("anthropic", "https://api.example.com/messages", "leave /v1/messages out"),
    ("anthropic", "https://api.example.com/v1", "leave /v1 out"),
    ("anthropic", "https://api.example.com/v1/", "leave /v1 out"),
]


@pytest.mark.parametrize(("provider", "address", "error"), ADDRESSES)
def test_an_address_with_the_path_of_a_request(provider: str, address: str, error: str) -> None:
    """Is an error when the file is loaded, with its line and what to leave out."""
    text = f'models:\n  m:\n    provider: {provider}\n    base_url: "{address}"\npolicies: {{p: {{tiers: [{{model: m}}]}}}}'
    with pytest.raises(PolicyError, match=rf"policies.yaml:4: models.m.base_url: .*{error}"):
        parse(text)


@pytest.mark.parametrize(
    "address",
    ["https://api.example.com/v1", "https://api.example.com/v1/", "http://localhost:11434/v1", "https://example.com/chat",
     "https://api.example.com/api/models/llama/v1", "https://my-messages.example.com", "https://example.com/v1beta/openai/"],
)  # fmt: skip
def test_addresses_that_are_right(address: str) -> None:
    """Words of a path that only look like a request's stay."""
    assert ModelSpec.model_validate({"provider": "openai", "base_url": address}).base_url == address


@pytest.mark.parametrize("kind", [OpenAIModel, AnthropicModel])
def test_a_key_in_a_file_is_renewed(server: WireServer, tmp_path: Path, kind: Any) -> None:
    """The next request has the new one; while the file is being replaced, the old one. No error shows either."""
    file = tmp_path / "token"
    file.write_text("first-token\n")
    base_url = f"{server.base_url}/v1" if kind is OpenAIModel else server.base_url
    server.reply = lambda r: Reply(message() if kind is AnthropicModel else chat())

    async def go() -> None:
        model = kind(name="m", model="x", base_url=base_url, api_key_file=str(file))
        await model.answer(Prompt.of("hi"), Request())
        (tmp_path / "new").write_text("second-token")
        os.replace(tmp_path / "new", file)
        await model.answer(Prompt.of("hi"), Request())
        file.write_text("")
        await model.answer(Prompt.of("hi"), Request())
        file.unlink()
        await model.answer(Prompt.of("hi"), Request())
        server.reply = Reply({"error": {"message": "not second-token, not first-token"}}, status=401)
        with pytest.raises(ModelError) as raised:
            await model.answer(Prompt.of("hi"), Request())
        assert "-token" not in str(raised.value)
        await model.close()

    asyncio.run(go())
    sent = [r.headers.get("authorization", r.headers.get("x-api-key", "")) for r in server.received]
    assert [value.removeprefix("Bearer ") for value in sent] == ["first-token", *["second-token"] * 4]


@pytest.mark.parametrize("content", [None, "", "  \n", "two\nlines", "schlüssel"])
def test_a_file_without_a_key(tmp_path: Path, content: str | None) -> None:
    """Is an error that names the file, and nothing in it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PolicyError, match=r"api_key_file: .*token") as raised:
        build("m", ModelSpec(provider="openai", base_url="http://localhost/v1", api_key_file=str(file)))
    assert "lines" not in str(raised.value)


def test_a_key_file_is_beside_the_policy_file(tmp_path: Path) -> None:
    """Its path is relative to that; and a model has one source of its key."""
    text = "models: {m: {provider: openai, api_key_file: token}}\npolicies: {p: {tiers: [{model: m}]}}"
    assert parse(text, str(tmp_path / "policies.yaml")).models["m"].api_key_file == str(tmp_path / "token")
    with pytest.raises(PolicyError, match="just one of the two"):
        parse(text.replace("api_key_file: token", "api_key_file: token, api_key_env: KEY"))
