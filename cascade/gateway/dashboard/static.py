"""``/dashboard``: the files of the page. They contain no data, so that no key is needed to load them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade import __version__
from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_HEADERS = [
    # Nothing from other sites, nothing inline, never in a frame.
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


async def page(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``GET /dashboard``, and the files that it loads."""
    name = body["path"].get("file", "index.html")
    if not name:  # /dashboard/: the page's links are relative to /dashboard
        await reply.send(b"", [(b"location", b"../dashboard"), (b"cache-control", b"no-cache")], 307)
        return
    file = _files().get(name)
    if file is None:
        raise ApiError(404, "no such file", code="not_found")
    content, content_type = file
    await reply.send(content, [(b"content-type", content_type), *_HEADERS])


async def home(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``GET /``: leads to the dashboard; a client that wants JSON receives the addresses."""
    accept = reply.header(b"accept")
    if "application/json" in accept and "text/html" not in accept:
        await reply.json({"name": "cascade", "version": __version__, "dashboard": "/dashboard", "openapi": "/openapi.json"})
    else:
        await reply.send(b"", [(b"location", b"/dashboard"), (b"cache-control", b"no-cache")], 307)


@cache
def _files() -> dict[str, tuple[bytes, bytes]]:
    """Every file of the page by its name in an address: no other file is served."""
    paths = sorted(path for path in _PAGE.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(_PAGE).as_posix(): (path.read_bytes(), _TYPES[path.suffix]) for path in paths}
