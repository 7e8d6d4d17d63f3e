"""The routes, as one Starlette application."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from cascade.gateway.anthropic.stream import MessageWriter
from cascade.gateway.dashboard.static import page
from cascade.gateway.openai.stream import ChatWriter
from cascade.gateway.serve.health import healthz, metrics, openapi, readyz

from .anthropic import messages
from .dashboard import events
from .endpoint import Endpoint, Reply
from .errors import ApiError, anthropic_shape, openai_shape
from .native_api import feedback, gate, route
from .openai import chat
from .response import dump, headers
from .run_request import answer
from .stream import stream

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller

    from .state import Gateway


async def _chat(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    asked = chat.read(body)
    if asked.stream:
        await stream(gateway, caller, asked, reply, ChatWriter(asked))
        return
    results = await answer(gateway, caller, asked)
    await reply.json(chat.completion(asked, results), headers(results))


async def _messages(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    asked = messages.read(body)
    if asked.stream:
        await stream(gateway, caller, asked, reply, MessageWriter(asked))
        return
    results = await answer(gateway, caller, asked)
    await reply.json(messages.message(asked, results[0]), headers(results))


async def _models(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    await reply.json({"object": "list", "data": [_model(gateway, name) for name in gateway.names(caller)]})


async def _one_model(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    name = body["path"]["name"]
    if name not in gateway.names(caller):
        raise ApiError(404, f"the policy {name!r} does not exist, or this key may not use it", code="model_not_found")
    await reply.json(_model(gateway, name))


def _model(gateway: "Gateway", name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": gateway.began, "owned_by": "cascade"}


def make_app(gateway: "Gateway") -> Starlette:
    """The application; its lifespan closes the gateway."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            await gateway.start()
            yield
        finally:
            await gateway.aclose()

    def post(path: str, handle: Any, **more: Any) -> Route:
        return Route(path, Endpoint(gateway, path, handle, **more), methods=["POST"])

    def get(path: str, handle: Any, **more: Any) -> Route:
        return Route(path, Endpoint(gateway, path, handle, reads=False, **more), methods=["GET"])

    routes = [
        post("/v1/chat/completions", _chat),
        post("/v1/messages", _messages, shape=anthropic_shape),
        post("/v1/route", route),
        post("/v1/gate", gate),
        post("/v1/feedback", feedback),
        get("/v1/models", _models),
        get("/v1/models/{name:path}", _one_model),
        get("/healthz", healthz, open=True),
        get("/readyz", readyz, open=True),
        get("/openapi.json", openapi, open=True),
        get("/metrics", metrics, whole=True),
        get("/dashboard", page, open=True),
        get("/dashboard/events", events.events, whole=True),
        get("/dashboard/runs/{run_id}", events.run, whole=True),
        get("/dashboard/{file:path}", page, open=True),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})


async def _http_error(_: HttpRequest, error: Exception) -> Response:
    """A path or a method that does not exist, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, f"{error.detail}; see /openapi.json", code="not_found")
    return Response(dump(openai_shape(refusal)), error.status_code, error.headers, "application/json")
