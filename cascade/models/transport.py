"""The SDKs' HTTP client, on aiohttp where that is installed, without cookies and with a limit to what it reads."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import cache, lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import httpx2

_BREATH = 2**18  # bytes


class BodyTooLarge(Exception):
    """A response body longer than the limit; the connection is closed, the rest is not read."""


class _Capped(httpx2.AsyncByteStream):
    """A response's decoded body, cut off with BodyTooLarge: a few compressed kilobytes can unpack to gigabytes."""

    def __init__(self, response: httpx2.Response, limit: int) -> None:
        self._response, self._limit = response, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = breath = 0
        async with aclosing(self._response.aiter_bytes()) as pieces:
            async for piece in pieces:
                read += len(piece)
                if read > self._limit:
                    raise _too_large(self._limit)
                yield piece
                if read - breath > _BREATH:  # unpacking waits for nothing: let other runs' deadlines have their turn
                    breath = read
                    await asyncio.sleep(0)

    async def aclose(self) -> None:
        await self._response.aclose()


class _CappedClient(httpx2.AsyncClient):
    """Reads at most ``max_body_bytes`` of any response, errors and streams included."""

    max_body_bytes: int

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        return super().build_request(method, _parsed(str(url)), **options)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        response = await super().send(request, stream=True, **options)
        try:
            response = self._capped(response)
            if not stream or response.is_error:  # the SDK would read an error's body whole
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    def _capped(self, response: httpx2.Response) -> httpx2.Response:
        limit, length = self.max_body_bytes, response.headers.get("content-length", "")
        encoded = response.headers.get("content-encoding", "identity") != "identity"
        if length.isdecimal():
            if int(length[:20]) > limit:
                raise _too_large(limit)
            if not encoded:
                return response  # HTTP itself ends the body there
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in ("content-encoding", "content-length")]
        return httpx2.Response(
            response.status_code,
            headers=headers,
            stream=_Capped(response, limit),
            request=response.request,
            extensions=response.extensions,
        )


@lru_cache(256)
def _parsed(url: str) -> httpx2.URL:
    """Every request of a model has the same address; to take it apart costs a twentieth of the request."""
    return httpx2.URL(url)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than max_body_bytes ({limit})")


def http_client(sdk: Any, timeout_s: float, max_body_bytes: int) -> httpx2.AsyncClient:
    """A client for ``sdk``; aiohttp gives several times the requests a second of the default.

    Cookies are neither kept nor sent: no API needs them, and a server could fill the memory with them.
    """
    try:
        client = _make(sdk.DefaultAioHttpClient, timeout_s, max_body_bytes)
    except RuntimeError:  # the SDK's word for "aiohttp is not installed"
        client = _make(sdk.DefaultAsyncHttpxClient, timeout_s, max_body_bytes)
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


def _make(base: Any, timeout_s: float, max_body_bytes: int) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=1000)
    capped: Any = type("Client", (_CappedClient, base), {"max_body_bytes": max_body_bytes})
    # Some servers' keys travel in headers that a redirect to another host would take along.
    return capped(timeout=timeout_s, limits=limits, verify=_tls(), follow_redirects=False)  # type: ignore[no-any-return]


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificates takes 20 ms, which blocks the event loop."""
    return httpx2.create_ssl_context()
