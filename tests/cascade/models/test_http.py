"""What both SDK models share: redaction, addresses, faults; by the real SDKs on a real local server where it matters."""

import asyncio
import json
import subprocess
import sys
import traceback
from typing import Any

import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.http import load, redact, split_userinfo, with_schema_text
from cascade.models.openai import OpenAIModel, is_strict
from cascade.models.protocol import ModelError, Request
from cascade.models.side_by_side import answers_with_usage
from cascade.models.usage import _warn_once
from judges import Answer, Prompt, Usage
from tests.wire_server import Reply, WireServer, chat, message

KEY = "plainkey0123456789"  # without a prefix that a pattern could know
BOTH = pytest.mark.parametrize("kind", [OpenAIModel, AnthropicModel])


def ask(kind: Any, base_url: str, prompt: Any = "hi", **options: Any) -> Any:
    """One question through a fresh client."""
    options = {"api_key": KEY, **options}

    async def go() -> Any:
        model = kind(name="m", model="x", base_url=base_url, **options)
        try:
            return await model.answer(prompt if isinstance(prompt, Prompt) else Prompt.of(prompt), Request())
        finally:
            await model.close()

    return asyncio.run(go())


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdef123456",
        "Bearer abc.def",
        "basic dXNlcjpw",
        "http://user:pw1@host/x",
        "x-api-key: abc",
        "my plainkey0123456789",
    ],
)
def test_redact(text: str) -> None:
    """Given secrets and whatever looks like one go; the text is cut."""
    text_shown = redact(f"{text} {'x' * 500}", KEY)
    assert "[redacted]" in text_shown
    assert not any(part in text_shown for part in ("abc", "pw1", KEY, "dXNl"))
    assert len(text_shown) <= 200


def test_split_userinfo() -> None:
    """The password leaves the address; an address without one stays as it is."""
    assert split_userinfo("http://u:p%40@h:1/v1") == ("http://h:1/v1", "Basic dTpwQA==")
    assert split_userinfo("http://h:1/v1") == ("http://h:1/v1", None)


@BOTH
def test_no_secret_in_an_error(server: WireServer, kind: Any) -> None:
    """Key, header and the address's password are redacted from what the server echoes, all through the traceback."""
    server.reply = Reply({"error": {"message": f"you sent {KEY}, hdr-12345 and pa55word"}}, 500)
    headers = {"x-team": "hdr-12345"}  # apart from the call, which the traceback quotes
    url = server.base_url.replace("http://", "http://user:pa55word@")
    with pytest.raises(ModelError) as caught:
        ask(kind, url, headers=headers)
    text_shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert not any(secret in text_shown for secret in (KEY, "hdr-12345", "pa55word"))
    assert caught.value.__context__ is None
    assert server.received[0].headers["authorization"].startswith("Basic ")


def test_a_key_from_the_environment_is_redacted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK may find the key by itself; the first error must not quote it."""
    import httpx2

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    body = {"error": {"message": f"wrong key {KEY}"}}

    async def go() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(401, json=body))) as client:
            await OpenAIModel(name="m", model="x", http_client=client).answer(Prompt.of("q"), Request())

    with pytest.raises(ModelError, match="wrong key") as caught:
        asyncio.run(go())
    assert KEY not in str(caught.value)


def test_no_key_at_all_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the provider itself a key is needed; no placeholder is sent."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ModelError, match="Missing credentials") as caught:
        asyncio.run(OpenAIModel(name="m", model="x").answer(Prompt.of("q"), Request()))
    assert not caught.value.retryable


@BOTH
def test_no_redirect_is_followed(server: WireServer, kind: Any) -> None:
    """Keys in headers of one's own would travel along to the other host."""
    with WireServer() as other:
        server.reply = Reply({}, 307, headers={"location": f"{other.base_url}/v1"})
        with pytest.raises(ModelError) as caught:
            ask(kind, server.base_url, headers={"x-team": "hdr-12345"})
        assert not other.received
    assert (caught.value.status, caught.value.retryable) == (307, False)


@BOTH
def test_a_dripping_server_times_out(kind: Any) -> None:
    """The timeout is of the whole request, not of the gap between two bytes."""

    async def drip(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def go() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = kind(name="m", model="x", base_url=f"http://127.0.0.1:{port}", timeout_s=0.2)
        try:
            with pytest.raises(ModelError, match="timed out") as caught:
                await model.answer(Prompt.of("q"), Request())
            assert caught.value.retryable
        finally:
            await model.close()
            server.close()

    asyncio.run(asyncio.wait_for(go(), 5))


@BOTH
def test_error_with_status_200(server: WireServer, kind: Any) -> None:
    """Proxies report a failed upstream so; it is worth another try."""
    server.reply = Reply({"error": {"message": f"upstream down {KEY}"}})
    with pytest.raises(ModelError, match="upstream down") as caught:
        ask(kind, server.base_url)
    assert caught.value.retryable
    assert KEY not in str(caught.value)


NO_COSTS = [-1, "1", True, 1e300, float("nan"), None]
BAD_COUNTS = [-1, "1", True, 1.5, 10**10, 1e30, float("nan"), [], {}]


@BOTH
@pytest.mark.parametrize("usage", [None, 5, {}, *({"prompt_tokens": n, "input_tokens": n} for n in BAD_COUNTS)])
def test_unusable_usage_is_unknown(server: WireServer, kind: Any, usage: Any) -> None:
    """A paid answer is kept, and its cost is unknown, not 0."""
    if usage:
        usage = {"completion_tokens": 5, "output_tokens": 5, **usage} if isinstance(usage, dict) else usage
    server.reply = Reply({**chat(), **message(), "usage": usage})
    assert ask(kind, server.base_url)[0].usage is None


@BOTH
@pytest.mark.parametrize("count", BAD_COUNTS)
def test_an_unusable_part_of_the_usage_makes_it_unknown(
    server: WireServer, kind: Any, count: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Cached tokens have a price of their own: what is not a count of them must not count as 0. The log names the model."""
    cached = {"prompt_tokens_details": {"cached_tokens": count}, "cache_read_input_tokens": count}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "input_tokens": 10, "output_tokens": 5, **cached}
    server.reply = Reply({**chat(), **message(), "usage": usage})
    _warn_once.cache_clear()
    assert ask(kind, server.base_url)[0].usage is None
    assert "m: its usage cannot be used (cache" in caplog.text


def test_more_cached_tokens_than_there_were_are_not_believed(server: WireServer, caplog: pytest.LogCaptureFixture) -> None:
    """Such a usage would be priced as if nearly all of it were cheap."""
    server.reply = Reply(chat(usage={"prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 3}}))
    _warn_once.cache_clear()
    assert ask(OpenAIModel, server.base_url)[0].usage is None
    assert "more cached tokens than prompt_tokens" in caplog.text


def test_odd_counts_of_reasoning_do_not_lose_the_totals(server: WireServer) -> None:
    """Reasoning is part of the output, whose price does not depend on it."""
    server.reply = Reply(chat(usage={"completion_tokens_details": {"reasoning_tokens": "x"}}))
    assert ask(OpenAIModel, server.base_url)[0].usage == Usage(10, 5)


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        ({"total_tokens": 315, "completion_tokens_details": {"reasoning_tokens": 300}}, 305),
        ({"total_tokens": 315}, 305),
        ({"total_tokens": None, "completion_tokens_details": {"reasoning_tokens": 300}}, 305),
        ({"total_tokens": 12}, 5),
        ({"total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 3}}, 5),
        ({"total_tokens": 15, "completion_tokens": None}, 5),
        ({"total_tokens": 15.0, "completion_tokens": 5.0}, 5),
    ],
    ids=["xai", "gemini", "no-total", "less-than-its-parts", "reasoning-inside", "no-completion", "floats"],
)
def test_tokens_beside_the_completion_are_billed_output(server: WireServer, usage: dict[str, Any], output: int) -> None:
    """Some servers count reasoning beside the completion, in the total only."""
    server.reply = Reply(chat(usage=usage))
    answered = ask(OpenAIModel, server.base_url)[0].usage
    assert (answered.input_tokens, answered.output_tokens) == (10, output)


@BOTH
@pytest.mark.parametrize(
    ("cost", "asks", "stated"),
    [
        (0.25, True, 0.25),
        (0, True, 0.0),
        (0.25, False, None),
        ({"total_cost": 0.006, "input_tokens_cost": 0.001}, True, 0.006),
        *((c, True, None) for c in (-1, "1", True, 1e300, float("nan"))),
    ],
)
def test_the_provider_s_own_cost_counts_where_the_policy_says_so(
    server: WireServer, kind: Any, cost: Any, asks: bool, stated: float | None
) -> None:
    """What is no amount is left out, and the tokens are priced."""
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "input_tokens": 10, "output_tokens": 5, "cost": cost}
    server.reply = Reply({**chat(), **message(), "usage": counts})
    (answer,) = ask(kind, server.base_url, cost_from_provider=asks)
    assert answer.cost_usd == stated
    assert answer.usage == Usage(10, 5)


@BOTH
def test_a_name_that_occurs_twice_is_malformed(server: WireServer, kind: Any) -> None:
    """A duplicate name is ambiguous; a cheaper usage must not win by coming last."""
    whole = json.dumps({**chat(), **message()})
    for twice in (
        whole[:-1] + ', "usage": {}}',
        whole.replace('"prompt_tokens": 10', '"prompt_tokens": 9, "prompt_tokens": 1'),
    ):
        server.reply = Reply(raw=(twice if twice != whole else whole[:-1] + ', "id": "d"}').encode())
        with pytest.raises(ModelError, match="a name occurs twice in an object") as caught:
            ask(kind, server.base_url)
        assert (caught.value.kind, caught.value.usage) == ("malformed", None)


@pytest.mark.parametrize("value", ["x", None, True, float("nan"), float("-inf")])
def test_unusable_logprobs_are_unknown(server: WireServer, value: Any) -> None:
    """No judge may meet a log-probability that is not a number."""
    server.reply = Reply(chat(choice={"logprobs": {"content": [{"token": "a", "logprob": value}]}}))
    (answer,) = ask(OpenAIModel, server.base_url)
    assert (answer.text, answer.logprobs) == ("hello", None)


@pytest.mark.parametrize("change", [{"message": {"tool_calls": "abc"}}, {"message": {"tool_calls": [1]}},
                                    {"choice": {"finish_reason": 5}}])  # fmt: skip
def test_wrong_types_are_malformed(server: WireServer, change: Any) -> None:
    """A string is not a list of tool calls."""
    server.reply = Reply(chat(**change))
    with pytest.raises(ModelError, match="malformed"):
        ask(OpenAIModel, server.base_url)


def test_content_parts_and_refusal(server: WireServer) -> None:
    """Some servers answer in parts; a refusal is the text where there is no other."""
    server.reply = Reply(chat([{"type": "text", "text": "in parts"}]))  # type: ignore[arg-type]
    assert ask(OpenAIModel, server.base_url)[0].text == "in parts"
    server.reply = Reply(chat(None, message={"refusal": "I cannot"}))
    assert ask(OpenAIModel, server.base_url)[0].text == "I cannot"


OPEN = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
CLOSED = {**OPEN, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        (OPEN, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "properties": {"x": OPEN}}, False),
        ({**CLOSED, "properties": {"x": {"type": "array", "items": CLOSED}}}, True),
        ({**CLOSED, "properties": {"x": {"type": "integer", "default": 1}}}, False),
        ({"type": "object"}, False),
        ({**CLOSED, "$defs": {"a": OPEN}}, False),
    ],
)
def test_is_strict(schema: Any, strict: bool) -> None:
    """Only what OpenAI takes as strict is sent so."""
    assert is_strict(schema) is strict


def test_strict_is_sent(server: WireServer) -> None:
    """A closed schema is enforced by the server."""
    ask(OpenAIModel, server.base_url, Prompt.of("q", schema=CLOSED))
    expected = {"name": "answer", "schema": CLOSED, "strict": True}
    assert server.received[0].body["response_format"] == {"type": "json_schema", "json_schema": expected}


def test_anthropic_gets_a_closed_schema(server: WireServer) -> None:
    """Anthropic refuses open objects; effort set by the user's options stays."""
    server.reply = Reply(message())
    ask(AnthropicModel, server.base_url, Prompt.of("q", schema=OPEN), options={"output_config": {"effort": "low"}})
    sent = server.received[0].body["output_config"]
    assert sent["effort"] == "low"
    assert sent["format"]["schema"]["additionalProperties"] is False


@BOTH
def test_json_object_tells_the_schema(server: WireServer, kind: Any) -> None:
    """For a server without schema support, the schema is part of the one system message."""
    server.reply = Reply({**chat(), **message()})
    ask(kind, server.base_url, Prompt.of("q", system="be brief", schema=OPEN), structured="json_object")
    body = server.received[0].body
    instructions = body.get("system") or body["messages"][0]["content"]
    assert instructions.startswith("be brief\n\nAnswer with JSON only")
    assert [m["role"] for m in body["messages"]].count("system") <= 1


def test_with_schema_text_with_parts() -> None:
    """A system message in parts gets one part more."""
    (first,) = with_schema_text([{"role": "system", "content": [{"type": "text", "text": "a"}]}], OPEN)
    assert [p["type"] for p in first["content"]] == ["text", "text"]


def test_the_organization_is_not_sent_to_another_server(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's names for OpenAI stay with OpenAI, as does its key."""
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "env-secret")
    ask(OpenAIModel, server.base_url, api_key=None)
    assert "env-secret" not in str(server.received[0].headers)


def test_importing_a_model_imports_no_sdk() -> None:
    """SDKs take most of a second to import; only the first question pays that."""
    code = (
        "import sys, cascade.models.openai, cascade.models.anthropic as a; "
        "a.AnthropicModel(name='m', model='x'); print([m for m in ('openai', 'anthropic', 'httpx2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@BOTH
@pytest.mark.parametrize(
    ("reply", "retryable"),
    [
        (Reply({"error": {"message": "no"}}, 500, headers={"x-should-retry": "false"}), False),
        (Reply({"error": {"message": "no"}}, 400, headers={"x-should-retry": "true"}), True),
        (Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, 429), False),
        (Reply({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, 429), True),
        (Reply({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 529), True),
        (Reply({"error": {"message": "bad request upstream", "code": 400}}), False),
        (Reply({"error": {"message": "upstream is full", "code": 429}}), True),
        (Reply({"error": "upstream is down"}), True),
        (Reply(raw=b"", status=204), True),
        (Reply(raw=b"null"), True),
    ],
)
def test_what_is_worth_a_retry(server: WireServer, kind: Any, reply: Reply, retryable: bool) -> None:
    """The provider's own word counts before the status; an error inside a 200 counts by its code."""
    server.reply = reply
    with pytest.raises(ModelError) as caught:
        ask(kind, server.base_url)
    assert caught.value.retryable is retryable


def test_failed_samples_leave_the_cost_as_known_as_it_is() -> None:
    """Refused samples cost nothing; one that may have been billed makes the whole unknown."""
    fields = {"usage": Usage(3, 4)}

    async def of(*replies: Answer | ModelError) -> list[Answer]:
        left = list(replies)

        async def one(_: int) -> list[Answer]:
            reply = left.pop()
            if isinstance(reply, ModelError):
                raise reply
            return [reply]

        return await answers_with_usage(one, len(replies))

    refused, lost = ModelError("r", model="m", usage=Usage()), ModelError("l", model="m")
    counted = ModelError("c", model="m", usage=Usage(1, 1))
    assert [a.usage for a in asyncio.run(of(Answer("a", **fields), refused, Answer("b", **fields)))] == [Usage(3, 4)] * 2
    assert [a.usage for a in asyncio.run(of(Answer("a", **fields), counted))] == [Usage(4, 5)]
    assert [a.usage for a in asyncio.run(of(Answer("a", **fields), lost, refused))] == [None]
    for failed, usage in (((refused, counted), Usage(1, 1)), ((refused, lost), None)):
        with pytest.raises(ModelError) as caught:
            asyncio.run(of(*failed))
        assert caught.value.usage == usage


@BOTH
def test_a_count_that_no_request_can_have_is_unknown(server: WireServer, kind: Any) -> None:
    """It would overflow the price; the answer itself is good."""
    absurd = dict.fromkeys(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"), 10**300)
    server.reply = Reply(chat(usage=absurd) if kind is OpenAIModel else message(usage=absurd))
    (answer,) = ask(kind, server.base_url)
    assert (answer.text, answer.usage) == ("hello", None)


def test_a_choice_that_is_an_error(server: WireServer) -> None:
    """A router whose provider broke off says so inside the choice; what it counted is known."""
    for choice in ({"finish_reason": "error"}, {"error": {"code": 502, "message": "upstream"}}):
        server.reply = Reply(chat("half an ans", choice=choice))
        with pytest.raises(ModelError, match="malformed") as caught:
            ask(OpenAIModel, server.base_url)
        assert caught.value.usage == Usage(10, 5)


@BOTH
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_server_that_answers_before_it_has_read(kind: Any) -> None:
    """A server that does not read the whole prompt does not delay the end of the request."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{")
        await over.wait()
        writer.transport.abort()

    over = asyncio.Event()

    async def go() -> float:
        server = await asyncio.start_server(early, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = kind(name="m", model="x", base_url=f"http://127.0.0.1:{port}", timeout_s=0.3)
        await load("openai" if kind is OpenAIModel else "anthropic")
        began = asyncio.get_running_loop().time()
        with pytest.raises(ModelError, match="timed out"):
            await model.answer(Prompt.of("x" * 20_000_000), Request())
        took = asyncio.get_running_loop().time() - began
        await model.close()
        over.set()
        server.close()
        await asyncio.sleep(0.1)  # for both ends to be closed
        return took

    # It would take until the server reads on: here forever. A busy machine needs longer than 0.3 s to copy 20 MB.
    assert asyncio.run(asyncio.wait_for(go(), 60)) < 20


def test_a_callers_own_key_is_billed_beside_the_routers_fee(server: WireServer) -> None:
    """OpenRouter's ``cost`` is its fee alone then; without the provider's part the cost is unknown."""
    usage = {"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.019}}
    server.reply = Reply(chat(usage=usage))
    (answer,) = ask(OpenAIModel, server.base_url, cost_from_provider=True)
    assert answer.cost_usd == pytest.approx(0.02)
    server.reply = Reply(chat(usage={**usage, "cost_details": None}))
    (answer,) = ask(OpenAIModel, server.base_url, cost_from_provider=True)
    assert answer.cost_usd is None


@pytest.mark.parametrize("word", ["error", "engine_error", "network_error", "FinishReason.MALFORMED_FUNCTION_CALL"])
def test_a_provider_that_broke_off_is_a_fault(server: WireServer, word: str) -> None:
    """Its words for that are no answer's end."""
    server.reply = Reply(chat("half of", choice={"finish_reason": word}))
    with pytest.raises(ModelError):
        ask(OpenAIModel, server.base_url)
