"""Requests of every shape, many at once, through the gateway: no budget is exceeded, whatever they hold."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from tests.cascade.costs.test_token_bound import sent_bytes
from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import Received, Reply, WireServer, chat, chat_events, message, message_events

PRICES = {"small": (1.0, 4.0), "large": (5.0, 20.0), "claude": (3.0, 15.0)}  # USD per million tokens read and written
BUDGETS = 12  # policies with a budget of their own, so that requests run out of money all the time
USD_PER_DAY = 0.08
SCRIPTS = ["plain words ", "漢字かな", "𒀀𒀁𓀀", "ༀ་", "ﷺ", "12345", '\\"\n\t', "😀", "e\u0301"]


def policies(url: str, usd_per_day: float = USD_PER_DAY) -> str:
    """Policies of two tiers each; a third of them with Anthropic's model as the first."""
    lines = ["models:"]
    for name, (read, written) in PRICES.items():
        provider = "anthropic" if name == "claude" else "openai"
        lines.append(
            f'  {name}: {{provider: {provider}, model: {name}, base_url: "{url}/{name}", max_tokens: 600, '
            f"retry: {{attempts: 2, initial_backoff_s: 0}}, price: {{input_per_mtok: {read}, output_per_mtok: {written}}}}}"
        )
    lines.append("policies:")
    for i in range(BUDGETS):
        first = "claude" if i % 3 == 0 else "small"
        lines += [
            f"  p{i}:",
            f"    budget_usd_per_day: {usd_per_day}",
            "    tiers:",
            f"      - {{name: first, model: {first}, accept_at: 0.9, judges: [schema, rules]}}",
            "      - {name: last, model: large, accept_at: 0.0, judges: [schema, rules]}",
        ]
    return "\n".join(lines)


class Biller:
    """A provider that counts honestly: up to a token for each byte that it was sent, and no more output than was allowed."""

    def __init__(self, seed: int, *, excess_tokens: int = 0) -> None:
        self._random, self._excess = random.Random(seed), excess_tokens
        self.billed: Counter[str] = Counter()
        self.requests = 0

    def __call__(self, received: Received) -> Reply:
        """One response, which is billed whether or not it arrives."""
        draw, body = self._random, received.body
        self.requests += 1
        fate = draw.random()
        if fate < 0.05:
            return Reply({"error": {"message": "busy"}}, status=503)  # not billed
        model = received.path.split("/")[1]
        limit = body.get("max_tokens") or body.get("max_completion_tokens")
        assert limit, "a request under a budget has no limit of its output"
        read = int(sent_bytes(body) * draw.choice([0.25, 0.25, 0.4, 1.0]))
        written = draw.choice([1, limit // 10, limit // 2, limit]) * (body.get("n") or 1) + self._excess
        price = PRICES[model]
        # The last message names the request's policy: the provider knows whose money it is.
        self.billed[_owner(body)] += (read * price[0] + written * price[1]) / 1e6
        text = draw.choice(["51", '{"a": 1}', "As an AI, I cannot help with that."])
        if model == "claude":
            one = message({"type": "text", "text": text}, usage={"input_tokens": read, "output_tokens": written})
            events = message_events(one)
        else:
            one = chat(text, usage={"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written})
            events = chat_events(one)
        delay = draw.choice([0.0, 0.0, 0.005, 0.03])
        if not body.get("stream"):
            return Reply(one, delay_s=delay)
        # A stream that breaks off was billed all the same.
        return Reply(events=events, delay_s=delay, reset_after=1 if fate < 0.1 else None)


def _owner(body: Any) -> str:
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return str(text.split()[0])


def _text(draw: random.Random) -> str:
    return draw.choice(SCRIPTS) * draw.choice([1, 1, 3, 30, 400])


def _history(draw: random.Random) -> Iterator[dict[str, Any]]:
    """Messages of every shape that both interfaces take."""
    for _ in range(draw.randrange(4)):
        yield {"role": "user", "content": _text(draw)}
        yield {"role": "assistant", "content": draw.choice([_text(draw), [{"type": "text", "text": _text(draw)}]])}


def chat_request(draw: random.Random, policy: str) -> dict[str, Any]:
    """A chat completion. What Anthropic's model does not take is left to the policies without it."""
    only_openai = int(policy[1:]) % 3 > 0
    messages: list[dict[str, Any]] = [{"role": draw.choice(["system", "developer"]), "content": _text(draw)}]
    messages += _history(draw)
    if only_openai and draw.random() < 0.5:
        messages.append({"role": "assistant", "content": None, "refusal": _text(draw) * draw.choice([1, 20])})
    if only_openai and draw.random() < 0.4:
        messages.append({"role": "assistant", "content": "x", "reasoning_content": _text(draw), "name": "n" * 60})
    if draw.random() < 0.4:
        function = {"name": "f", "arguments": json.dumps({"a": [_text(draw), 1e22, 1.5e-9]}, separators=(",", ":"))}
        calls = [{"id": f"c{i}", "type": "function", "function": function} for i in range(draw.randrange(1, 4))]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": _text(draw)} for call in calls]
    last: Any = f"{policy} {_text(draw)}"
    if draw.random() < 0.2:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
        last = [image, {"type": "text", "text": last}]
    body: dict[str, Any] = {"model": policy, "messages": [*messages, {"role": "user", "content": last}]}
    if draw.random() < 0.3:
        schema = {"type": "object", "properties": {"a": {"type": "integer", "description": _text(draw)[:2000]}}}
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    if draw.random() < 0.3:
        parameters = {"type": "object", "properties": {"city": {"type": "string", "description": _text(draw)[:2000]}}}
        body["tools"] = [
            {"type": "function", "function": {"name": "f", "description": _text(draw)[:900], "parameters": parameters}}
        ]
    if draw.random() < 0.5:
        body[draw.choice(["max_tokens", "max_completion_tokens"])] = draw.choice([1, 50, 600, 3000])
    if draw.random() < 0.2:
        body["stop"] = [_text(draw)[:50] or "x"]
    if draw.random() < 0.3:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def message_request(draw: random.Random, policy: str) -> dict[str, Any]:
    """A message in Anthropic's form."""
    messages: list[dict[str, Any]] = list(_history(draw))
    if draw.random() < 0.4:
        used = [{"type": "tool_use", "id": f"t{i}", "name": "f", "input": {"a": _text(draw)}} for i in range(2)]
        results = [{"type": "tool_result", "tool_use_id": one["id"], "content": _text(draw)} for one in used]
        messages += [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": used},
            {"role": "user", "content": results},
            {"role": "assistant", "content": "y"},
        ]
    body: dict[str, Any] = {
        "model": policy,
        "max_tokens": draw.choice([1, 50, 600, 3000]),
        "messages": [*messages, {"role": "user", "content": f"{policy} {_text(draw)}"}],
    }
    if draw.random() < 0.5:
        body["system"] = draw.choice([_text(draw), [{"type": "text", "text": _text(draw) or "x"}]])
    if draw.random() < 0.3:
        body["stream"] = True
    return body


def attack(running: Running, requests: int, seed: int, at_once: int = 32) -> Counter[int]:
    """Sends generated requests; a few clients leave before their response. Returns how often each status came."""
    draw, statuses = random.Random(seed), Counter[int]()

    async def go() -> None:
        gate = asyncio.Semaphore(at_once)
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        async with httpx2.AsyncClient(base_url=running.url, timeout=60, limits=limits) as client:

            async def one(path: str, body: Any, leaves: bool) -> None:
                async with gate:
                    content = json.dumps(body).encode()
                    headers = {"content-type": "application/json"}
                    with suppress(httpx2.TimeoutException, httpx2.RemoteProtocolError):
                        response = await client.post(path, content=content, headers=headers, timeout=0.01 if leaves else 60)
                        statuses[response.status_code] += 1

            sent = []
            for _ in range(requests):
                policy, chats = f"p{draw.randrange(BUDGETS)}", draw.random() < 0.7
                body = chat_request(draw, policy) if chats else message_request(draw, policy)
                path = "/v1/chat/completions" if chats else "/v1/messages"
                sent.append(asyncio.ensure_future(one(path, body, draw.random() < 0.03)))
                if len(sent) >= 4 * at_once:
                    await asyncio.gather(*sent)
                    sent.clear()
            await asyncio.gather(*sent)

    asyncio.run(go())
    return statuses


@pytest.mark.parametrize(
    ("requests", "usd_per_day"), [(250, 0.02), pytest.param(10_000, 4.0, marks=pytest.mark.slow)], ids=["some", "10,000"]
)
def test_generated_requests_exceed_no_budget(serve: Serve, upstream: WireServer, requests: int, usd_per_day: float) -> None:
    """What an honest provider bills for a policy never exceeds its budget of the day."""
    biller = Biller(1)
    upstream.reply = biller
    running = serve(policies(upstream.base_url, usd_per_day))
    statuses = attack(running, requests, 2)
    assert set(statuses) <= {200, 402, 429, 502, 503}, statuses
    assert statuses[200] > requests / 10
    refused = sum(count for status, count in statuses.items() if status in (402, 429))
    assert refused > requests / 20, statuses
    assert set(biller.billed) == {f"p{i}" for i in range(BUDGETS)}
    over = {name: usd for name, usd in biller.billed.items() if usd > usd_per_day}
    assert not over, over
