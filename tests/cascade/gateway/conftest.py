"""A gateway as it is in service: the real server on a port of its own, in a thread of its own."""

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import uvicorn.server
from prometheus_client import CollectorRegistry

import cascade.gateway.schemas.pool
from cascade.gateway.serve.server import make_server
from cascade.gateway.state import Gateway
from cascade.policy import load
from cascade.policy.schema import PolicyFile
from tests.wire_server import WireServer
from tests.workers import warm_python

POLICIES = """
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/small/v1", logprobs: true,
    price: {{input_per_mtok: 1, output_per_mtok: 2}}, retry: {{attempts: 1}}}}
  large: {{provider: openai, model: large-1, base_url: "{url}/large/v1",
    price: {{input_per_mtok: 10, output_per_mtok: 20}}, retry: {{attempts: 1}}}}
  claude: {{provider: anthropic, model: claude-1, base_url: "{url}/claude", retry: {{attempts: 1}}}}
policies:
  default:
    tiers:
      - {{name: cheap, model: small, accept_at: 0.9, judges: [schema, rules, logprob]}}
      - {{name: premium, model: large, accept_at: 0.0, judges: [schema, rules]}}
  claude:
    tiers: [{{model: claude, accept_at: 0.0, judges: [schema, rules]}}]
  careful:
    when_unsure: abstain
    tiers: [{{model: small, accept_at: 0.99, judges: [logprob]}}]
  strict:
    when_unsure: raise
    tiers: [{{model: small, accept_at: 0.99, judges: [logprob]}}]
"""


async def doze(seconds: float) -> None:
    """Sleeps for at most 10 ms."""
    await asyncio.sleep(min(seconds, 0.01))


# uvicorn looks every 0.1 s whether it is to stop, and then waits for as long: hundreds of gateways would wait for minutes.
uvicorn.server.asyncio = SimpleNamespace(**{**vars(asyncio), "sleep": doze})

# A schema that takes too long costs its process, and the next one would import everything anew.
cascade.gateway.schemas.pool.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": warm_python.Popen})


@dataclass
class Running:
    """A gateway that listens, and clients of it."""

    gateway: Gateway
    port: int
    stop: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    key: str = "none"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def openai(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client, which has nothing but another base URL."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, **options)

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        """Anthropic's own client."""
        return anthropic.Anthropic(base_url=self.url, api_key=self.key, max_retries=0, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        """One request by hand."""
        return httpx2.post(self.url + path, json=body, timeout=20, **options)

    def chat(self, **fields: Any) -> httpx2.Response:
        """One chat completion by hand."""
        return self.post(
            "/v1/chat/completions", {"model": "default", "messages": [{"role": "user", "content": "hi"}], **fields}
        )


@contextmanager
def serving(file: PolicyFile, **options: Any) -> Iterator[Running]:
    """A gateway in a thread of its own until the block ends."""
    listening, box = threading.Event(), {}

    async def go() -> None:
        path = options.pop("path", None)
        gateway = Gateway(file, **{"registry": CollectorRegistry(), **options})
        server = make_server(gateway, "127.0.0.1", 0, lambda port: (box.update(port=port), listening.set()), path)
        box.update(gateway=gateway, server=server, loop=asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(go()), daemon=True)
    thread.start()
    assert listening.wait(30), "the gateway does not listen"

    def stop() -> None:
        box["server"].should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the gateway does not stop"

    try:
        yield Running(box["gateway"], box["port"], stop, box["loop"])
    finally:
        stop()


@pytest.fixture
def upstream() -> Iterator[WireServer]:
    """The providers."""
    with WireServer() as server:
        yield server


Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes gateways of policy files' texts that stop after the test."""
    with ExitStack() as stack:

        def make(text: str, **options: Any) -> Running:
            path = tmp_path / "policies.yaml"
            path.write_text(text)
            return stack.enter_context(serving(load.parse(text, str(path)), **options))

        yield make


@pytest.fixture
def running(upstream: WireServer, serve: Serve) -> Running:
    """A gateway over the wire server: two tiers at OpenAI's, one at Anthropic's."""
    return serve(POLICIES.format(url=upstream.base_url))
