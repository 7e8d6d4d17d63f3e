"""OpenAIModel: the real SDK against a real local server."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from cascade import Cascade
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import PolicyFile
from judges import Prompt, TokenLogprob, Usage
from tests.wire_server import Reply, WireServer, chat

KEY = "sk-test-very-secret-0123456789"


def ask(server: WireServer, prompt: Any = "hi", request: Request = Request(), **options: Any) -> Any:  # noqa: B008
    """One question through a fresh client."""

    async def go() -> Any:
        model = OpenAIModel(name="m", model="gpt-x", api_key=KEY, base_url=f"{server.base_url}/v1", **options)
        try:
            return await model.answer(prompt if isinstance(prompt, Prompt) else Prompt.of(prompt), request)
        finally:
            await model.close()

    return asyncio.run(go())


def test_plain(server: WireServer) -> None:
    """Text, finish reason and usage; the key travels in the header only."""
    (answer,) = ask(server, max_tokens=50, temperature=0.0)
    assert (answer.text, answer.finish_reason, answer.model) == ("hello", "stop", "gpt-x")
    assert answer.usage == Usage(10, 5)
    sent = server.received[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.body == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 50,
        "temperature": 0.0,
    }


def test_cached_and_reasoning_tokens(server: WireServer) -> None:
    """Cached tokens are part of the input, reasoning tokens of the output."""
    details = {"prompt_tokens_details": {"cached_tokens": 7}, "completion_tokens_details": {"reasoning_tokens": 3}}
    server.reply = Reply(chat(usage=details))
    assert ask(server)[0].usage == Usage(10, 5, cached_tokens=7, reasoning_tokens=3)


class Order(BaseModel):
    """A schema as users write one."""

    item: str


@pytest.mark.parametrize("schema", [Order, Order.model_json_schema()])
def test_schema_is_asked_for_natively(server: WireServer, schema: Any) -> None:
    """A pydantic class and a JSON Schema both become response_format."""
    ask(server, Prompt.of("q", schema=schema))
    expected = {"type": "json_schema", "json_schema": {"name": "answer", "schema": Order.model_json_schema()}}
    assert server.received[0].body["response_format"] == expected


def test_logprobs(server: WireServer) -> None:
    """Tokens with their log-probabilities, and the first token's alternatives."""
    top = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.5}]
    content = [{"token": "Yes", "logprob": -0.1, "top_logprobs": top}, {"token": "!", "logprob": -1.0, "top_logprobs": []}]
    server.reply = Reply(chat("Yes!", choice={"logprobs": {"content": content}}))
    (answer,) = ask(server, request=Request(logprobs=True))
    assert answer.logprobs == (TokenLogprob("Yes", -0.1), TokenLogprob("!", -1.0))
    assert answer.first_token_top == {"Yes": -0.1, "No": -2.5}
    assert server.received[0].body["top_logprobs"] == 5
    ask(server, logprobs=True)
    assert server.received[1].body["logprobs"] is True
    assert "top_logprobs" not in server.received[1].body


@pytest.mark.parametrize("huge", [-(10**400), 10**400, -1e999, "-1"])
def test_a_logprob_that_is_no_figure_is_unknown(server: WireServer, huge: Any) -> None:
    """Also a whole number too large for a float: the answer was paid for and is good."""
    top = [{"token": "Yes", "logprob": huge}, {"token": "No", "logprob": -3.0}]
    content = [{"token": "Yes", "logprob": -0.1, "top_logprobs": top}, {"token": "!", "logprob": huge, "top_logprobs": []}]
    server.reply = Reply(chat("Yes!", choice={"logprobs": {"content": content}}))
    (answer,) = ask(server, request=Request(logprobs=True))
    assert (answer.text, answer.logprobs, answer.first_token_top) == ("Yes!", None, {"No": -3.0})


def test_samples_by_n(server: WireServer) -> None:
    """One request gives all samples; the usage is counted once."""
    body = chat()
    body["choices"] = [{**body["choices"][0], "index": i} for i in range(3)]
    server.reply = Reply(body)
    answers = ask(server, request=Request(n=3, temperature=0.7))
    assert [a.usage for a in answers] == [Usage(10, 5), Usage(), Usage()]
    assert [r.body["n"] for r in server.received] == [3]


def test_samples_of_a_server_that_counts_the_first_only(server: WireServer) -> None:
    """The tokens of all samples are counted where the server's usage has fewer; a larger usage is kept."""
    body = chat()
    tokens = [{"token": "a", "logprob": -0.1}] * 5
    body["choices"] = [{**body["choices"][0], "index": i, "logprobs": {"content": tokens}} for i in range(3)]
    server.reply = Reply(body)
    assert [a.usage for a in ask(server, request=Request(n=3))] == [Usage(10, 15), Usage(), Usage()]
    server.reply = Reply({**body, "usage": {"prompt_tokens": 10, "completion_tokens": 18}})
    assert ask(server, request=Request(n=3))[0].usage == Usage(10, 18)


def test_samples_side_by_side(server: WireServer) -> None:
    """A server without n is asked n times, and one failure does not throw the others away."""
    replies = iter([Reply(chat("a")), Reply({}, 500), Reply(chat("b"))])
    server.reply = lambda _: next(replies)
    assert sorted(a.text for a in ask(server, request=Request(n=3), n=False)) == ["a", "b"]
    assert all("n" not in r.body for r in server.received)


def test_tool_calls_and_images_pass_through(server: WireServer) -> None:
    """What the caller sent reaches the provider unchanged, and tool calls come back unchanged."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    server.reply = Reply(chat(None, message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"}))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, image]}]
    (answer,) = ask(server, Prompt.of(messages, tools=tools))
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("", (call,), "tool_calls")
    assert server.received[0].body["tools"] == tools
    assert server.received[0].body["messages"] == messages


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
def test_status_errors(server: WireServer, status: int) -> None:
    """Each status is one request (SDK retries are off), retryable or not, and quotes no key."""
    error = {"error": {"message": f"bad key {KEY} or Bearer abc.def", "type": "x"}}
    server.reply = Reply(error, status)
    with pytest.raises(ModelError) as caught:
        ask(server)
    assert len(server.received) == 1
    assert caught.value.status == status
    assert caught.value.retryable == (status in (408, 409, 429, 500, 503))
    assert "secret" not in f"{caught.value!r}{caught.value}"
    assert "abc.def" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>oops</html>", b'{"choices": [{"mess', b'{"choices": []}', b'{"choices": [1]}', b"\xff\xfe", b"[]",
     b'{"choices": [{"message": {"content": 5}}]}', b'{"choices": [{"message": null}]}',
     b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{}]}}]}'],
)  # fmt: skip
def test_malformed_bodies(server: WireServer, raw: bytes) -> None:
    """Whatever is not the protocol is the provider's fault, never an empty answer."""
    server.reply = Reply(raw=raw)
    with pytest.raises(ModelError) as caught:
        ask(server)
    assert caught.value.retryable


def test_timeout_and_refused_connection(server: WireServer) -> None:
    """A slow server and none at all are retryable faults."""
    server.reply = Reply(chat(), delay_s=2)
    with pytest.raises(ModelError, match="timed out") as caught:
        ask(server, request=Request(timeout_s=0.1))
    assert caught.value.retryable

    async def nobody() -> None:
        model = OpenAIModel(name="m", model="x", base_url="http://127.0.0.1:9/v1")
        try:
            await model.answer(Prompt.of("q"), Request())
        finally:
            await model.close()

    with pytest.raises(ModelError, match="no connection"):
        asyncio.run(nobody())


def test_repr_shows_no_key() -> None:
    """Neither key, nor headers, nor address."""
    text = repr(OpenAIModel(name="m", model="x", api_key=KEY, base_url="http://u:p@h/v1", headers={"x": KEY}))
    assert "secret" not in text
    assert "u:p" not in text


def test_a_whole_run_over_http(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy file, two tiers on a real server: the cheap one's broken JSON escalates, both are priced."""
    monkeypatch.setenv("TEST_KEY", KEY)
    common = {"provider": "openai", "base_url": f"{server.base_url}/v1", "api_key_env": "TEST_KEY"}
    price = {"input_per_mtok": 1.0, "output_per_mtok": 2.0}
    file = PolicyFile.model_validate(
        {
            "models": {"small": {**common, "price": price}, "large": {**common, "price": price}},
            "policies": {
                "default": {
                    "tiers": [
                        {"model": "small", "accept_at": 0.0, "judges": ["schema"]},
                        {"model": "large", "accept_at": 0.0, "judges": ["schema"]},
                    ]
                }
            },
        }
    )
    server.reply = lambda r: Reply(chat('{"item": "pen"}' if r.body["model"] == "large" else "no idea"))
    with Cascade(file) as c:
        result = c.run("q", schema=Order)
        assert result.parsed == Order(item="pen")
        assert (result.reason, result.tier) == ("last_tier", "large")
        assert result.cost_usd == pytest.approx(2 * (10 * 1.0 + 5 * 2.0) / 1e6)
        assert c.run("q", schema=Order).reason == "last_tier"


THOUGHT_MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"content": "<think>Hm.</think>\n\n42"}, "tags"),
    ({"content": "Hm.\n</think>\n\n42"}, "only the end"),
    ({"content": "42", "reasoning_content": "Hm."}, "DeepSeek, Qwen, vLLM"),
    ({"content": "42", "reasoning": "Hm."}, "OpenRouter, Groq, newer vLLM"),
    ({"content": "42", "reasoning": "Hm.", "reasoning_content": "Hm."}, "vLLM between the two"),
    ({"content": "42", "thinking": "Hm."}, "Ollama"),
    ({"content": "42", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "OpenRouter's details"),
    (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "42"}]},
        "Mistral",
    ),
    ({"content": "<thought>Hm.</thought>42"}, "Gemini"),
]


@pytest.mark.parametrize("message", [m for m, _ in THOUGHT_MESSAGES], ids=[name for _, name in THOUGHT_MESSAGES])
def test_reasoning_is_not_the_answer(server: WireServer, message: dict[str, Any]) -> None:
    """Wherever a server puts the thought, the text is the answer alone."""
    server.reply = Reply(chat(None, message=message))
    (answer,) = ask(server)
    assert (answer.text, answer.reasoning) == ("42", "Hm.")


def test_reasoning_without_an_answer(server: WireServer) -> None:
    """An answer that was cut inside its thought has no text."""
    server.reply = Reply(chat("<think>It may be", choice={"finish_reason": "length"}))
    (answer,) = ask(server)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "It may be", "length")


def test_the_tokens_of_reasoning_are_not_the_answer_s(server: WireServer) -> None:
    """Log-probabilities and the first token's alternatives are those of the answer; the thought's tokens are counted."""
    tokens = ["<think>", "no", "</think>", "yes"]
    logged = [
        {"token": t, "logprob": -i - 0.5, "top_logprobs": [{"token": t, "logprob": -i - 0.5}]} for i, t in enumerate(tokens)
    ]
    server.reply = Reply(chat("<think>no</think>yes", choice={"logprobs": {"content": logged}}))
    (answer,) = ask(server, request=Request(logprobs=True))
    assert answer.logprobs == (TokenLogprob("yes", -3.5),)
    assert answer.first_token_top == {"yes": -3.5}
    assert answer.usage is not None
    assert answer.usage.reasoning_tokens == 3


def test_a_refusal_keeps_its_field(server: WireServer) -> None:
    """What the provider marks as a refusal is known as one, in any language."""
    server.reply = Reply(chat(None, message={"refusal": "Das mache ich nicht."}))
    (answer,) = ask(server)
    assert (answer.text, answer.refusal) == ("Das mache ich nicht.", "Das mache ich nicht.")


@pytest.mark.parametrize(
    ("word", "reason"),
    [("eos", "stop"), ("MAX_TOKENS", "length"), ("insufficient_system_resource", "length"), ("SAFETY", "content_filter"),
     ("FinishReason.MAX_TOKENS", "length"), ("FINISH_REASON_STOP", "stop"), ("content-filter", "content_filter"),
     ("USER_CANCEL", "length"), ("repetition_truncation", "length"), ("token_limit", "length"),
     ("MODEL_ARMOR", "content_filter"),
     ("function_call", "tool_calls"), ("brand_new", "brand_new"), (None, None)],
)  # fmt: skip
def test_finish_reasons(server: WireServer, word: str | None, reason: str | None) -> None:
    """Each dialect is read into one; an unknown word stays."""
    server.reply = Reply(chat("42", choice={"finish_reason": word}))
    assert ask(server)[0].finish_reason == reason
