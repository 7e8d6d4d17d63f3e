"""Whether the gateway lives and is ready, what Prometheus reads, and the OpenAPI document."""

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.gateway.openapi import document
from cascade.gateway.response import dump

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway


async def healthz(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """The process answers."""
    await reply.json({"status": "ok"})


async def readyz(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """Requests are taken: at least one policy can be asked, and the gateway is not stopping."""
    usable = len(gateway.serving.file.policies) - len(gateway.reloader.status.unusable or {})
    if gateway.closing.is_set() or usable < 1:
        raise ApiError(503, "stopping" if usable else "no policy can be asked", code="not_ready", retry_after_s=1)
    await reply.json({"status": "ready", "policies": usable})


async def metrics(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """Prometheus' text format; of all processes where PROMETHEUS_MULTIPROC_DIR is set."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    gateway.tell_load()
    registry = gateway.registry or REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    await reply.raw(generate_latest(registry), [(b"content-type", CONTENT_TYPE_LATEST.encode())])


async def openapi(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """The document of the gateway's own routes."""
    await reply.raw(_document(), [(b"content-type", b"application/json")])


@cache
def _document() -> bytes:
    return dump(document())
