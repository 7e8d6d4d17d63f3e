"""The provider models against every fault, by the real SDKs on both transports: what is retried and known of the cost."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from judges import Prompt, Usage
from tests.faults.process import FaultServer
from tests.faults.replies import COUNTED, FAULTS, LOST, REFUSALS, Plan

BOTH = pytest.mark.parametrize("provider", ["openai", "anthropic"])
KINDS: dict[str, Any] = {"openai": OpenAIModel, "anthropic": AnthropicModel}
SLOW = ("drip", "hang")
COUNTS = Usage(42, 9)  # of the run number 2, as replies.read counts


class Missing(httpx2.AsyncClient):
    """What the SDKs have in the place of their aiohttp client where that is not installed."""

    def __init__(self, **_: object) -> None:
        raise RuntimeError("aiohttp is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    """A server with a model for each fault, named after it, and a healthy one."""
    with FaultServer() as running:
        running.plan({"healthy": Plan(), **{fault: Plan(faults=(fault,)) for fault in FAULTS}})
        yield running


@pytest.fixture(params=["aiohttp", "httpcore"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The SDKs' transport; without the extra they have only their default one."""
    if request.param == "httpcore":
        for sdk in (openai, anthropic):
            monkeypatch.setattr(sdk, "DefaultAioHttpClient", Missing)
    return str(request.param)


async def ask(server: FaultServer, provider: str, name: str, **options: Any) -> Usage | ModelError:
    """The usage of one answer, or its fault; then the server is healthy for the same client."""
    options = {"timeout_s": 0.3 if name in SLOW else 10, **options}
    model = KINDS[provider](name=name, model=name, api_key="x", base_url=server.base_url(name, provider), **options)
    try:
        (answer,) = await model.answer(Prompt.of("run:2 what is it?"), Request())
        assert answer.text == Plan.answer
        assert answer.usage is not None
        return answer.usage
    except ModelError as error:
        return error
    finally:
        await model.close()


@BOTH
@pytest.mark.usefixtures("transport")
def test_every_fault_is_a_model_error(server: FaultServer, provider: str) -> None:
    """Each fault is a retryable ModelError whose usage is nothing, known or unknown as the server billed it."""

    async def go() -> dict[str, Usage | ModelError]:
        return dict(zip(FAULTS, await asyncio.gather(*(ask(server, provider, f) for f in FAULTS)), strict=True))

    for fault, error in asyncio.run(go()).items():
        assert isinstance(error, ModelError), fault
        assert error.retryable, fault
        assert error.status == REFUSALS.get(fault), fault
        if fault in REFUSALS or fault == "refused":
            assert error.usage == Usage(), fault
        elif fault in COUNTED:
            assert error.usage == COUNTS, fault
        else:
            assert error.usage is None, fault
        if fault in LOST:
            assert any(word in str(error) for word in ("billed", "malformed")), str(error)


@BOTH
@pytest.mark.usefixtures("transport")
def test_a_healthy_answer(server: FaultServer, provider: str) -> None:
    """The same server and the same client, without a fault."""
    assert asyncio.run(ask(server, provider, "healthy")) == COUNTS


@BOTH
@pytest.mark.usefixtures("transport")
def test_memory_is_bounded(server: FaultServer, provider: str) -> None:
    """Forty bodies of 20 MB at once, compressed and plain, with a limit of 1 MiB: 800 MB are never in memory."""

    async def go() -> None:
        limit = {"max_body_bytes": 2**20}
        await ask(server, provider, "bomb", **limit)  # imports aside
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answers = [ask(server, provider, fault, **limit) for fault in ("bomb", "huge") for _ in range(20)]
        assert all(isinstance(error, ModelError) for error in await asyncio.gather(*answers))
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100

    asyncio.run(go())


GOOD = b'{"choices": [{"message": {"content": "x"}}], "content": [{"type": "text", "text": "x"}]}'
HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(GOOD), GOOD)
ODD = [
    b"",
    b"\0" * 10,
    b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"content-length: 2\r\n\r\n{}",
    b"HTTP/1.1 999 Huh\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nlocation: ::::\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 30 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-encoding: " + b"gzip, " * 500 + b"gzip\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 500 No\r\ncontent-type: text/html; charset=nonsense\r\ncontent-length: 2\r\n\r\n\xff\xff",
    b"HTTP/1.1 429 No\r\nretry-after: nan\r\nx-should-retry: maybe\r\ncontent-length: 2\r\n\r\n[]",
    b"HTTP/1.1 400 No\r\ncontent-length: 100000\r\n\r\n" + b"[" * 100_000,
    b"HTTP/1.1 200 OK\r\nset-cookie: \xff\xff=;;;==\r\ncontent-length: 2\r\n\r\n{}",
]


def damaged(count: int) -> Iterator[bytes]:
    """A healthy answer with one to four bytes changed."""
    draw = Random(1)
    for _ in range(count):
        answer = bytearray(HEALTHY)
        for _ in range(draw.randint(1, 4)):
            answer[draw.randrange(len(answer))] = draw.randrange(256)
        yield bytes(answer)


@BOTH
@pytest.mark.usefixtures("transport")
def test_bytes_that_are_hardly_http(provider: str) -> None:
    """Whatever comes down the wire is an answer or a ModelError, asked for whole or as a stream."""
    reply = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}]")
        writer.write(reply)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def go() -> int:
        nonlocal reply
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        model = KINDS[provider](name="m", model="m", api_key="x", base_url=url, timeout_s=5.0)
        answers = 0
        for answer in (HEALTHY, *ODD, *damaged(60)):
            reply = answer
            with suppress(ModelError):
                answers += len(await model.answer(Prompt.of("q"), Request()))
            with suppress(ModelError):
                async for _ in model.stream(Prompt.of("q"), Request()):
                    pass
        await model.close()
        server.close()
        return answers

    assert 1 <= asyncio.run(go()) < 40
