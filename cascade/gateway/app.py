"""The composition root: builds one Starlette application of the gateway, the routes, the dashboard and the reloader."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cascade.util.extras import needed_by
from cascade.util.log_events import Event

with needed_by("the gateway"):
    import starlette  # noqa: F401  # one sentence where it is missing, before the modules below need it

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from .anthropic import request as messages
from .anthropic.count_tokens import count_tokens
from .anthropic.response import message
from .anthropic.stream import MessageWriter
from .auth.keys import Caller
from .cors import Cors
from .dashboard.events import SseHub, events, run_details
from .dashboard.quality import QualityView
from .dashboard.review import next_review, review
from .dashboard.static import home, page
from .endpoint import Endpoint, ErrorShape, Handler, Receive, Reply, Scope, Send, access_log
from .errors import ApiError, anthropic_shape, openai_shape
from .openai import chat
from .openai.completion import completion
from .openai.responses import request as responses
from .openai.responses.response import response
from .openai.responses.stream import ResponseWriter
from .openai.stream import chat_writers
from .reload import Reloader
from .response import dump, headers
from .routes.health import healthz, metrics, openapi, readyz
from .routes.model_list import list_models, one_model
from .routes.native_api import feedback, gate, route
from .run_request import run_request
from .state import Gateway
from .stream import stream


async def _chat(gateway: Gateway, caller: Caller, body: Mapping[str, Any], reply: Reply) -> None:
    request = chat.read(body)
    if request.stream:
        await stream(gateway, caller, request, reply, chat_writers(request))
        return
    results = await run_request(gateway, caller, request)
    await reply.json(completion(request, results), headers(results))


async def _responses(gateway: Gateway, caller: Caller, body: Mapping[str, Any], reply: Reply) -> None:
    request = responses.read(body)
    if request.stream:
        await stream(gateway, caller, request, reply, [ResponseWriter(request)])
        return
    results = await run_request(gateway, caller, request)
    await reply.json(response(request, results[0]), headers(results))


async def _stored_response(gateway: Gateway, caller: Caller, body: Mapping[str, Any], reply: Reply) -> None:
    message = "the gateway keeps no responses: it answers as with store: false; the journal has the runs"
    raise ApiError(404, message, param="response_id", code="not_stored")


async def _messages(gateway: Gateway, caller: Caller, body: Mapping[str, Any], reply: Reply) -> None:
    request = messages.read(body, reply.header(b"anthropic-beta"))
    if request.stream:
        await stream(gateway, caller, request, reply, [MessageWriter(request)])
        return
    results = await run_request(gateway, caller, request)
    await reply.json(message(request, results[0]), headers(results))


class Application(Starlette):
    """Starlette, with one look-up for the routes that run prompts, which saves 5 % of a short run's time.

    These bypass Starlette's own middleware: an endpoint answers every error itself.
    """

    def __init__(
        self, direct: Mapping[str, Cors], routes: Sequence[BaseRoute], gateway: Gateway, lifespan: Lifespan[Starlette]
    ) -> None:
        super().__init__(
            routes=routes,
            lifespan=lifespan,
            middleware=[Middleware(Cors, gateway=gateway)],
            exception_handlers={HTTPException: _http_error},
        )
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._direct.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def make_app(gateway: Gateway, path: Path | None = None) -> Application:
    """The ASGI application of a gateway.

    Args:
        gateway: What all requests share. The application's lifespan closes it.
        path: The policy file to reload when it changes; None: only the key file is reloaded.

    Returns:
        The application, with every route.
    """
    reloader, hub, view = Reloader(gateway, path), SseHub(gateway), QualityView(gateway)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        watching: asyncio.Task[None] | None = None
        try:
            await gateway.check_policies()
            watching = asyncio.ensure_future(reloader.watch())
            yield
        finally:
            if watching is not None:
                watching.cancel()
            await gateway.aclose()

    def post(path: str, handler: Handler, error_shape: ErrorShape = openai_shape, *, all_policies: bool = False) -> Route:
        endpoint = Endpoint(gateway, path, handler, error_shape, all_policies=all_policies)
        return Route(path, endpoint, methods=["POST"])

    def get(path: str, handler: Handler, *, public: bool = False, all_policies: bool = False) -> Route:
        endpoint = Endpoint(gateway, path, handler, has_body=False, public=public, all_policies=all_policies)
        return Route(path, endpoint, methods=["GET"])

    direct: dict[str, Cors] = {}

    def prompts(path: str, handler: Handler, error_shape: ErrorShape = openai_shape) -> Route:
        endpoint = post(path, handler, error_shape)
        direct[path] = Cors(endpoint.app, gateway)
        return endpoint

    routes = [
        prompts("/v1/chat/completions", _chat),
        prompts("/v1/responses", _responses),
        get("/v1/responses/{response_id:path}", _stored_response),
        prompts("/v1/messages", _messages, error_shape=anthropic_shape),
        post("/v1/messages/count_tokens", count_tokens, error_shape=anthropic_shape),
        prompts("/v1/route", route),
        prompts("/v1/gate", gate),
        post("/v1/feedback", feedback),
        get("/v1/models", list_models),
        get("/v1/models/{name:path}", one_model),
        get("/", home, public=True),
        get("/healthz", healthz, public=True),
        get("/readyz", readyz, public=True),
        get("/openapi.json", openapi, public=True),
        get("/metrics", metrics, all_policies=True),
        get("/dashboard", page, public=True),
        get("/dashboard/events", partial(events, hub=hub), all_policies=True),
        get("/dashboard/quality", view.figures, all_policies=True),
        get("/dashboard/quality/runs", view.runs, all_policies=True),
        get("/dashboard/runs/{run_id}", run_details, all_policies=True),
        get("/dashboard/review/next", next_review, all_policies=True),
        post("/dashboard/review", review, all_policies=True),
        get("/dashboard/{file:path}", page, public=True),
    ]
    return Application(direct, routes, gateway, lifespan)


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    """A path or a method that does not exist, in the error shape of the client."""
    assert isinstance(error, HTTPException)
    if access_log.isEnabledFor(logging.INFO):
        access_log.info(Event("request", method=request.method, route="none", status=error.status_code))
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    api_error = ApiError(error.status_code, f"{error.detail}; see /openapi.json", code=code)
    is_anthropic = request.url.path.startswith("/v1/messages") or "anthropic-version" in request.headers
    shape = anthropic_shape if is_anthropic else openai_shape
    return Response(dump(shape(api_error)), error.status_code, error.headers, "application/json")
