"""The real openai SDK: `arun` over the bare SDK call (mock transport), and real HTTP by both transports; prints JSON.

Over HTTP client and server are processes of their own, each on a core of its own where there are two.
"""

import asyncio
import json
import os
import statistics
import sys
from time import perf_counter, process_time
from typing import Any

import httpx2
import openai

from cascade import Cascade, Policy, Prompt
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Request
from tests.faults.process import FaultServer
from tests.faults.replies import Plan
from tests.wire_server import chat

ROUNDS, CALLS = 9, 60


def body(tokens: int) -> dict[str, Any]:
    """A completion, with five alternatives for each of ``tokens`` tokens."""
    top = [{"token": f"t{i}", "logprob": -float(i), "bytes": [116]} for i in range(5)]
    content = [{"token": "t0", "logprob": -0.1, "bytes": [116], "top_logprobs": top} for _ in range(tokens)]
    return chat("hello", choice={"logprobs": {"content": content}} if tokens else {})


async def ratio(tokens: int) -> float:
    """CPU of ``arun`` over that of the bare SDK call on the same mock transport, the median of interleaved rounds."""
    raw = json.dumps(body(tokens)).encode()
    headers = {"content-type": "application/json"}

    def client() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=raw, headers=headers))
        )

    bare = openai.AsyncOpenAI(api_key="x", http_client=client(), max_retries=0)
    model = OpenAIModel(name="m", model="gpt-4o-mini", api_key="x", logprobs=tokens > 0, http_client=client())
    tiers = [{"model": "m", "accept_at": 0.0, "judges": ["rules"]}]
    cascade = Cascade(Policy.model_validate({"tiers": tiers}), models={"m": model})
    prompt = Prompt.of("hi")
    extra: dict[str, Any] = {"logprobs": True, "top_logprobs": 5} if tokens else {}
    results = []
    for _ in range(ROUNDS):
        start = process_time()
        for _ in range(CALLS):
            await bare.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], **extra)
        middle = process_time()
        for _ in range(CALLS):
            await cascade.arun(prompt)
        results.append((process_time() - middle) / (middle - start))
    return statistics.median(results[1:])


async def over_http(server: FaultServer, http_client: Any, total: int) -> tuple[float, float]:
    """Answers a second, and the client's CPU seconds an answer, at 200 concurrent against a zero-delay server."""
    url = server.base_url("m", "openai")
    model = OpenAIModel(name="m", model="m", api_key="x", base_url=url, http_client=http_client)
    prompt, request = Prompt.of("hi"), Request()

    async def worker() -> None:
        for _ in range(total // 200):
            await model.answer(prompt, request)

    await model.answer(prompt, request)
    start, cpu = perf_counter(), process_time()
    await asyncio.gather(*(worker() for _ in range(200)))
    rates = total / (perf_counter() - start), (process_time() - cpu) / total
    await model.close()
    return rates


def sdk_default() -> httpx2.AsyncClient:
    """The SDK's own transport, with room for all requests at once."""
    return openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=2000, max_keepalive_connections=1000))


def main() -> int:
    """Measures both and compares the CPU ratios with their targets."""
    plain, logprobs = asyncio.run(ratio(0)), asyncio.run(ratio(100))
    with FaultServer() as server:
        server.plan({"m": Plan()}, keep=False)
        if len(cores := sorted(os.sched_getaffinity(0))) > 1:
            os.sched_setaffinity(server.pid, cores[:1])
            os.sched_setaffinity(0, cores[1:2])
        rounds = [
            (asyncio.run(over_http(server, None, 4000)), asyncio.run(over_http(server, sdk_default(), 1000)))
            for _ in range(3)
        ]
    # By CPU, since a busy machine lengthens the one round and not the other; the client's core is what limits both.
    http = statistics.median(default[1] / ours[1] for ours, default in rounds)
    result = {
        "arun_over_sdk": round(plain, 3),
        "arun_over_sdk_100x5_logprobs": round(logprobs, 3),
        "targets": {"arun_over_sdk": 1.15, "arun_over_sdk_100x5_logprobs": 1.0, "http_ratio_by_cpu": 1.5},
        "http_200_concurrent_per_s": round(statistics.median(ours[0] for ours, _ in rounds)),
        "http_sdk_default_transport_per_s": round(statistics.median(default[0] for _, default in rounds)),
        "http_ratio_by_cpu": round(http, 2),
        "n": (ROUNDS - 1) * CALLS,
    }
    print(json.dumps({"providers": result}))
    return 0 if plain <= 1.15 and logprobs <= 1.0 and http >= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
