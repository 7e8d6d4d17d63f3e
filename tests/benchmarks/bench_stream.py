"""Streaming: how soon held text is out, what a token costs, and the real SDK's own stream beside ours; prints JSON.

Over HTTP client and server are processes of their own; the same 200 words arrive in both, on the same transport.
"""

import asyncio
import json
import multiprocessing
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import openai

import judges
from cascade import Cascade, Policy, Prompt, ScriptedModel, Token
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Request
from cascade.models.transport import http_client
from cascade.util.http_settings import MAX_BODY_BYTES
from tests.wire_server import Reply, WireServer, chat, chat_events

WORDS, ROUNDS, CALLS, HELD = 200, 11, 10, 200
TEXT = "word " * WORDS
TARGETS = {"held_out_p95_ms": 5.0, "live_us_per_token": 10.0, "held_us_per_token": 10.0, "astream_over_sdk": 1.0}
accepted_at = 0.0


@judges.judge("bench-accepts")
def accepts(prompt: Any, answer: Any) -> float:
    """Accepts, and remembers when."""
    global accepted_at
    accepted_at = perf_counter()
    return 1.0


def serve(pipe: Any) -> None:
    """Streams the same answer to whoever asks, until the pipe says enough."""
    with WireServer() as server:
        server.reply = Reply(events=chat_events(chat(TEXT)))
        pipe.send(server.base_url)
        pipe.recv()


@contextmanager
def server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    yield ours.recv()
    ours.send(None)
    process.join(10)


def cascade(model: Any, *judged: str) -> Cascade:
    """One tier, live without judges and held with them."""
    tier = {"model": "m", "accept_at": 0.5 if judged else 0.0, "judges": list(judged)}
    return Cascade(Policy.model_validate({"tiers": [tier]}), models={"m": model})


async def held_out_ms(model: Any) -> list[float]:
    """Milliseconds from the judge's word to each run's first token, as the reader of the events sees it."""
    held, latencies = cascade(model, "bench-accepts"), []
    for _ in range(HELD):
        async for event in held.astream("q"):
            if isinstance(event, Token):
                latencies.append((perf_counter() - accepted_at) * 1e3)
                break
    return sorted(latencies)


async def us_per_token(*judged: str) -> float:
    """CPU of a token's way from a scripted model through the engine to the reader, in microseconds; the median of rounds."""
    model = ScriptedModel("m", [TEXT], keep_calls=False)
    c, prompt, request, latencies = cascade(model, *judged), Prompt.of("q"), Request(), []
    for _ in range(ROUNDS):
        start = process_time()
        for _ in range(CALLS):
            async for _ in model.stream(prompt, request):
                pass
        middle = process_time()
        for _ in range(CALLS):
            async for _ in c.astream(prompt):
                pass
        latencies.append(((process_time() - middle) - (middle - start)) / CALLS / WORDS * 1e6)
    return statistics.median(latencies)


async def over_sdk(url: str) -> tuple[float, float, list[float]]:
    """CPU of ``astream`` over that of the SDK's stream, the SDK's microseconds a word, and the times of ``held_out_ms``."""
    client = http_client(openai, 60.0, MAX_BODY_BYTES)
    bare = openai.AsyncOpenAI(api_key="x", base_url=url, http_client=client, max_retries=0)
    model = OpenAIModel(name="m", model="m", api_key="x", base_url=url)
    live, ratios, cost = cascade(model), [], []
    for _ in range(ROUNDS):
        start = process_time()
        for _ in range(CALLS):
            stream = await bare.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "q"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            assert "".join(pieces) == TEXT
        middle = process_time()
        for _ in range(CALLS):
            pieces = [event.text async for event in live.astream("q") if isinstance(event, Token)]
            assert "".join(pieces) == TEXT
        ratios.append((process_time() - middle) / (middle - start))
        cost.append((middle - start) / CALLS / WORDS * 1e6)
    held = await held_out_ms(model)
    await model.close()
    await client.aclose()
    return statistics.median(ratios[1:]), statistics.median(cost[1:]), held


def main() -> int:
    """Measures and compares with the targets."""
    live, held = asyncio.run(us_per_token()), asyncio.run(us_per_token("bench-accepts"))
    with server() as url:
        ratio, sdk, out = asyncio.run(over_sdk(url))
    results = {
        "held_out_p95_ms": out[int(len(out) * 0.95)],
        "live_us_per_token": live,
        "held_us_per_token": held,
        "astream_over_sdk": ratio,
    }
    more = {
        "held_out_p99_ms": out[int(len(out) * 0.99)],
        "held_out_median_ms": statistics.median(out),
        "held_out_max_ms": out[-1],
        "sdk_us_per_word": sdk,
    }
    rounded = {k: round(v, 3) for k, v in {**results, **more}.items()}
    n = {"held": len(out), "tokens": ROUNDS * CALLS * WORDS}
    print(json.dumps({"stream": {**rounded, "targets": TARGETS, "n": n}}))
    return 0 if all(results[k] <= target for k, target in TARGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
