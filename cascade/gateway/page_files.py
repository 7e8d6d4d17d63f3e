"""``/dashboard``: the page's own files. They hold no figures, so that no key is needed to load them."""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
_HEADERS = {
    # Nothing from elsewhere, nothing inline, in nobody's frame.
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Every file of the page by its name in an address: what is not among them is not read."""
    found = sorted(path for path in _PAGE.rglob("*") if path.suffix in _TYPES)
    made = {path.relative_to(_PAGE).as_posix(): (path.read_bytes(), _TYPES[path.suffix]) for path in found}
    return {**made, "": made["index.html"]}


async def page(request: Request) -> Response:
    """The page for ``/dashboard``, a file of it for what follows; 404 for all else."""
    found = _files().get(request.path_params.get("file", ""))
    if found is None:
        return Response(b"there is no such file", 404, _HEADERS, "text/plain")
    content, kind = found
    return Response(content, 200, _HEADERS, kind)
