"""``GET /v1/models``: what a caller may name as a model, in OpenAI's or Anthropic's shape."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.validation import shorten

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

_MAX_PAGE = 1000


async def list_models(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """Every model; for Anthropic's clients a page of them, of the size that they ask for."""
    names = gateway.model_names(caller)
    if not reply.header(b"anthropic-version"):
        await reply.json({"object": "list", "data": [_openai_model(gateway, name) for name in names]})
        return
    page, has_more = _page(names, {name: values[-1] for name, values in parse_qs(reply.query).items()})
    ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
    await reply.json({"data": [_anthropic_model(gateway, name) for name in page], "has_more": has_more, **ends})


async def one_model(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """One model by its name."""
    name = body["path"]["name"]
    if name not in gateway.model_names(caller):
        raise ApiError(404, f"no policy {shorten(name)!r}, or this key may not use it", code="model_not_found")
    shape = _anthropic_model if reply.header(b"anthropic-version") else _openai_model
    await reply.json(shape(gateway, name))


def _page(names: list[str], query: Mapping[str, str]) -> tuple[list[str], bool]:
    """The names of one page, and whether more follow in the direction of reading."""
    limit = query.get("limit", str(_MAX_PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= _MAX_PAGE):
        raise bad_request(f"must be a whole number from 1 to {_MAX_PAGE}", "limit")
    size = int(limit)
    before, after = query.get("before_id"), query.get("after_id")
    if before is not None:
        rest = names[: names.index(before)] if before in names else []
        return rest[-size:], len(rest) > size
    rest = names[names.index(after) + 1 :] if after in names else names if after is None else []
    return rest[:size], len(rest) > size


def _openai_model(gateway: "Gateway", name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": gateway.started_at, "owned_by": "cascade"}


def _anthropic_model(gateway: "Gateway", name: str) -> dict[str, Any]:
    created = datetime.fromtimestamp(gateway.started_at, UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": name, "display_name": name, "created_at": created}
