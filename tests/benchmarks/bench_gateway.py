"""The gateway's throughput and latency, over the wire; prints JSON, fails where a target is missed.

The gateway, a bare Starlette echo and an upstream run in processes of their own. Requests a second are counted by the
gateway's own CPU time, so that what else the machine does, this client included, does not count: "on one core".
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

TARGETS = {"scripted_per_s": 2500, "upstream_per_s": 600, "added_p50_ms": 1.0, "added_p99_ms": 5.0, "first_token_ms": 5.0,
           "at_64_p99_over_p50": 3.0}  # fmt: skip
ASK = {"messages": [{"role": "user", "content": "What is 6 * 7? Reply with the number only."}], "temperature": 0}

SCRIPTED = """
models: {m: {provider: scripted, answers: ["42"]}}
policies: {default: {tiers: [{model: m, accept_at: 0.0, judges: [schema, rules]}]}}
"""
UPSTREAM = """
models: {{m: {{provider: openai, model: m, base_url: "{url}/v1", price: {{input_per_mtok: 1, output_per_mtok: 1}}}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0.0, judges: [schema, rules]}}]}}}}
"""

ECHO = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
async def echo(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())
app = Starlette(routes=[Route("/v1/chat/completions", echo, methods=["POST"])])
config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/", file=sys.stderr, flush=True)
Server(config).run()
"""

PROVIDER = """
import asyncio, json, sys, threading
from tests.wire_server import chat
BODY = json.dumps(chat("42")).encode()
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(BODY)
class Provider(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.kept = transport, b""
    def data_received(self, data):
        self.kept += data
        head, end, rest = self.kept.partition(b"\\r\\n\\r\\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        if len(rest) >= length:
            self.kept = rest[length:]
            self.transport.write(HEAD + BODY)
async def main():
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", file=sys.stderr, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Client(asyncio.Protocol):
    """One connection that asks again and again; ``done`` is called with each status."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._waiting: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(0)

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    async def ask(self) -> int:
        """The status of one answer; 0 where the connection was lost."""
        self._waiting = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(self._request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(rest) >= length and self._waiting is not None:
            self._buffer = b""
            self._waiting.set_result(int(head[9:12]))


def request_of(port: int, **more: object) -> bytes:
    """A chat completion as it stands on the wire."""
    body = json.dumps({"model": "default", **ASK, **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def clients(port: int, count: int) -> list[Client]:
    """Open connections."""
    loop, request = asyncio.get_running_loop(), request_of(port)
    return [(await loop.create_connection(lambda: Client(request), "127.0.0.1", port))[1] for _ in range(count)]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def throughput(port: int, pid: int, total: int, concurrent: int = 200) -> tuple[float, float, int]:
    """Requests a second of the gateway's CPU and of the clock, and how many failed."""
    connections = await clients(port, concurrent)
    await asyncio.gather(*(c.ask() for c in connections))
    left, failed = total, 0

    async def worker(client: Client) -> None:
        nonlocal left, failed
        while left > 0:
            left -= 1
            failed += await client.ask() != 200

    cpu, start = cpu_s(pid), perf_counter()
    await asyncio.gather(*map(worker, connections))
    return total / (cpu_s(pid) - cpu), total / (perf_counter() - start), failed


async def latencies(port: int, seconds: float, per_s: int = 100) -> list[float]:
    """Milliseconds of requests that begin evenly spaced."""
    connections = await clients(port, 20)
    free = list(connections)
    latencies: list[float] = []

    async def one() -> None:
        client = free.pop()
        start = perf_counter()
        assert await client.ask() == 200
        latencies.append((perf_counter() - start) * 1000)
        free.append(client)

    tasks = []
    for _ in range(int(seconds * per_s)):
        tasks.append(asyncio.ensure_future(one()))
        await asyncio.sleep(1 / per_s)
    await asyncio.gather(*tasks)
    return latencies


async def crowded(port: int, total: int, connections: int = 64) -> list[float]:
    """Milliseconds of requests on ``connections`` connections, each of which asks again as soon as it is answered."""
    asking, latencies = await clients(port, connections), []

    async def worker(client: Client) -> None:
        for _ in range(total // connections):
            start = perf_counter()
            assert await client.ask() == 200
            latencies.append((perf_counter() - start) * 1000)

    await asyncio.gather(*map(worker, asking))
    # The first round opens connections to the upstream as well.
    return latencies[connections:]


async def first_tokens(port: int, count: int) -> list[float]:
    """Milliseconds from a request to the first held token of its stream: more than from its acceptance to that token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = []
    for _ in range(count):
        await asyncio.sleep(0.01)
        start = perf_counter()
        writer.write(request_of(port, stream=True))
        await reader.readuntil(b'"content":"42"')
        latencies.append((perf_counter() - start) * 1000)
        await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    return latencies


@contextmanager
def process(*arguments: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port, as it says it, and its id."""
    running = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        for line in running.stderr:
            if "http://127.0.0.1:" in line:
                yield int(line.partition("127.0.0.1:")[2].partition("/")[0]), running.pid
                break
        else:
            raise RuntimeError("a server did not start")
    finally:
        running.terminate()
        running.wait(20)


@contextmanager
def gateway(policies: str) -> Iterator[tuple[int, int]]:
    """``python -m cascade serve`` of a policy file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policies.yaml")
        path.write_text(policies)
        with process("-m", "cascade", "serve", "--policy-file", str(path), "--port", "0", "--stop-on-eof") as server:
            yield server


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    """Measures; interleaved rounds against the echo, since the machine's own noise is in both."""
    with gateway(SCRIPTED) as (port, pid), process("-c", ECHO) as (echo, echo_pid):
        asyncio.run(throughput(port, pid, 2000))
        asyncio.run(throughput(echo, echo_pid, 2000))
        scripted, echoed = [], []
        for _ in range(3):
            scripted.append(asyncio.run(throughput(port, pid, 8000)))
            echoed.append(asyncio.run(throughput(echo, echo_pid, 4000)))
        streamed = asyncio.run(first_tokens(port, 500))
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(5):
            ours += asyncio.run(latencies(port, 3))
            bare += asyncio.run(latencies(echo, 3))
    with (
        process("-c", PROVIDER) as (provider, _),
        gateway(UPSTREAM.format(url=f"http://127.0.0.1:{provider}")) as (port, pid),
    ):
        asyncio.run(throughput(port, pid, 1000))
        upstream = [asyncio.run(throughput(port, pid, 3000)) for _ in range(3)]
        crowd = [asyncio.run(crowded(port, 6400)) for _ in range(3)]
    results = {
        "scripted_per_s": statistics.median(r[0] for r in scripted),
        "scripted_per_s_by_clock": statistics.median(r[1] for r in scripted),
        "echo_per_s": statistics.median(r[0] for r in echoed),
        "upstream_per_s": statistics.median(r[0] for r in upstream),
        "upstream_per_s_by_clock": statistics.median(r[1] for r in upstream),
        "added_p50_ms": percentile(ours, 0.5) - percentile(bare, 0.5),
        "added_p99_ms": percentile(ours, 0.99) - percentile(bare, 0.99),
        "first_token_ms": percentile(streamed, 0.5),
        "first_token_p99_ms": percentile(streamed, 0.99),
        "at_64_p50_ms": statistics.median(percentile(each, 0.5) for each in crowd),
        "at_64_p99_ms": statistics.median(percentile(each, 0.99) for each in crowd),
        "at_64_p99_over_p50": statistics.median(percentile(each, 0.99) / percentile(each, 0.5) for each in crowd),
        "echo_p50_ms": percentile(bare, 0.5),
        "echo_p99_ms": percentile(bare, 0.99),
    }
    failed = sum(r[2] for r in (*scripted, *upstream))
    ok = failed == 0 and all(
        results[name] >= target if name.endswith("per_s") else results[name] <= target for name, target in TARGETS.items()
    )
    n = {"scripted": 24_000, "upstream": 9000, "latency": len(ours), "at_64": sum(map(len, crowd))}
    rounded = {name: round(value, 2) for name, value in results.items()}
    print(json.dumps({"gateway": {**rounded, "failed": failed, "targets": TARGETS, "n": n, "ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
