"""The SDKs' client on a real local server: the limit to a body, and no cookies."""

import asyncio
import gzip
import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from cascade.models.transport import BodyTooLarge, http_client
from tests.wire_server import Reply, WireServer, chat

SDKS = pytest.mark.parametrize("sdk", [openai, anthropic])
BODY = json.dumps(chat("x" * 100_000)).encode()


class Missing(httpx2.AsyncClient):
    """What the SDKs have in the place of their aiohttp client where that is not installed."""

    def __init__(self, **_: object) -> None:
        raise RuntimeError("aiohttp is not installed")


@pytest.fixture(params=[True, False], ids=["aiohttp", "httpcore"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of the SDKs' transports."""
    if not request.param:
        monkeypatch.setattr(openai, "DefaultAioHttpClient", Missing)
        monkeypatch.setattr(anthropic, "DefaultAioHttpClient", Missing)


async def get(sdk: Any, url: str, limit: int, *, stream: bool = False) -> bytes:
    """The body of one POST through a fresh client; of a stream, as much as came before the limit."""
    client = http_client(sdk, 5.0, limit)
    try:
        response = await client.send(client.build_request("POST", url, json={}), stream=stream)
        return b"".join([piece async for piece in response.aiter_bytes()]) if stream else response.content
    finally:
        await client.aclose()


@SDKS
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_the_limit_holds_to_the_byte(
    server: WireServer, sdk: Any, status: int, packed: bool, chunked: bool, stream: bool
) -> None:
    """A body of exactly the limit is read, one byte less than that is too much: packed or not, answers and errors."""
    headers = {"content-encoding": "gzip"} if packed else {}
    server.reply = Reply(raw=gzip.compress(BODY) if packed else BODY, status=status, headers=headers, chunked=chunked)
    assert asyncio.run(get(sdk, server.base_url, len(BODY), stream=stream)) == BODY
    with pytest.raises(BodyTooLarge, match="max_body_bytes"):
        asyncio.run(get(sdk, server.base_url, len(BODY) - 1, stream=stream))


@SDKS
def test_a_connection_survives_answers_and_not_a_cut_one(server: WireServer, sdk: Any) -> None:
    """After a body that was cut off the client goes on with another connection."""

    async def go() -> None:
        client = http_client(sdk, 5.0, 1000)
        for _ in range(3):
            server.reply = Reply(raw=BODY)
            with pytest.raises(BodyTooLarge):
                await client.post(server.base_url, json={})
            server.reply = Reply(raw=b"{}")
            assert (await client.post(server.base_url, json={})).content == b"{}"
        await client.aclose()

    asyncio.run(go())


@SDKS
def test_no_cookie_is_kept(server: WireServer, sdk: Any) -> None:
    """A server can neither follow a client by cookies nor fill its memory with them."""

    async def go() -> None:
        client = http_client(sdk, 5.0, 1000)
        for i in range(3):
            server.reply = Reply({}, headers={"set-cookie": f"name{i}=value; Path=/"})
            await client.post(server.base_url, json={})
        assert not list(client.cookies.jar)
        await client.aclose()

    asyncio.run(go())
    assert all("cookie" not in received.headers for received in server.received)
