"""Calls from web pages of other origins, where the policy file allows them: preflight requests and response headers."""

import re
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.policy.schema import CorsSpec

if TYPE_CHECKING:
    from .state import Gateway

_METHODS = b"GET, POST, OPTIONS"
_HEADERS = b"authorization, content-type, x-api-key, anthropic-version, anthropic-beta"
_EXPOSED = (
    b"x-cascade-run-id, x-cascade-accepted, x-cascade-confidence, x-cascade-tier, x-cascade-model, x-cascade-cost-usd, "
    b"retry-after, x-should-retry"
)
_HEADER_LIST = re.compile(rb"[!#$%&'*+.^`|~\w-]+(?:\s*,\s*[!#$%&'*+.^`|~\w-]+)*")
_MAX_HEADER_LIST = 2048


class Cors:
    """ASGI middleware that answers browsers by ``cors`` of the policy file in service; without that key it does nothing.

    Args:
        app: The application.
        gateway: Has the policy file in service.
    """

    def __init__(self, app: ASGIApp, gateway: "Gateway") -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spec = self._gateway.active.file.cors
        if spec is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        if not origin or not _allows(spec, origin):
            await self._app(scope, receive, send)
            return
        allowed = _allow_origin(spec, origin)
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _preflight(spec, headers.get(b"access-control-request-headers", b""), allowed, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exposed = (b"access-control-expose-headers", _EXPOSED)
                message = {**message, "headers": [*message.get("headers", ()), *allowed, exposed]}
            await send(message)

        # The policy file allows this origin, which the check for pages of other sites would reject.
        kept_headers = [pair for pair in scope["headers"] if pair[0] not in (b"origin", b"sec-fetch-site")]
        await self._app({**scope, "headers": kept_headers}, receive, send_with_headers)


def _allows(spec: CorsSpec, origin: bytes) -> bool:
    return "*" in spec.allow_origins or origin.decode("latin-1").lower() in spec.allow_origins


def _allow_origin(spec: CorsSpec, origin: bytes) -> list[tuple[bytes, bytes]]:
    if "*" in spec.allow_origins:
        return [(b"access-control-allow-origin", b"*")]
    headers = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    return [*headers, (b"access-control-allow-credentials", b"true")] if spec.allow_credentials else headers


async def _preflight(spec: CorsSpec, requested: bytes, allowed: list[tuple[bytes, bytes]], send: Send) -> None:
    """Allows the headers that the page wants to send: client libraries add many of their own."""
    valid = len(requested) <= _MAX_HEADER_LIST and _HEADER_LIST.fullmatch(requested)
    headers = [
        *allowed,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", requested if valid else _HEADERS),
        (b"access-control-max-age", b"%d" % spec.max_age_s),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
