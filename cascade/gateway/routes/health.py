"""Liveness, readiness, Prometheus metrics and the OpenAPI document."""

import asyncio
import os
import struct
from collections.abc import Mapping
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.gateway.response import dump
from cascade.telemetry.worker_breakers import all_breakers, worst

from .openapi import document

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway


STALE_KEYS_S = 10.0
"""Seconds for which a changed key file may be unreadable before the gateway reports that it is not ready."""

_READS, _PAUSE_S = 100, 0.01  # of metrics files that cannot be read, over a second in all


async def healthz(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """``GET /healthz``: the process answers."""
    await reply.json({"status": "ok"})


async def readyz(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """``GET /readyz``: at least one policy can run, keys and journal work, and the gateway is not stopping."""
    usable = len(gateway.active.file.policies) - len(gateway.reload_status.unusable)
    if (gateway.closing.is_set() and not gateway.draining) or usable < 1:
        message = "the gateway is stopping" if usable else "no policy can run; the gateway's log has the reasons"
        raise ApiError(503, message, code="not_ready", retry_after_s=1)
    stale = gateway.keys_stale_since
    if stale is not None and monotonic() - stale > STALE_KEYS_S:
        message = "the key file has changed and cannot be read; the gateway's log has the reason"
        raise ApiError(503, message, code="not_ready", retry_after_s=1)
    if gateway.journal is not None and gateway.journal.stalled:
        message = "the journal cannot be written; the gateway's log has the reason"
        raise ApiError(503, message, code="not_ready", retry_after_s=1)
    ready: dict[str, Any] = {"status": "ready", "policies": usable}
    if (state := gateway.shared_state) is not None:  # requests without a shared limit are answered all the same
        ready["state"] = "away" if state.away else "ok"
        ready["state_fail"] = state.fail
    if broken := _open_breakers(gateway):  # what other models answer is answered all the same
        ready["open_breakers"] = broken
    await reply.json(ready)


def _open_breakers(gateway: "Gateway") -> int:
    """How many models have a breaker that is not closed in any worker; their names are for those who have a key."""
    health = gateway.active.cascade.health()
    states = all_breakers({name: one.state for name, one in health.items() if one.state is not None})
    return sum(worst(of_model) != "closed" for of_model in states.values())


async def metrics(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """``GET /metrics``: Prometheus' text format; the sum of all processes where PROMETHEUS_MULTIPROC_DIR is set."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

    gateway.update_load_metrics()
    several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
    text = await _metrics_of_all_processes() if several else generate_latest(gateway.registry or REGISTRY)
    await reply.send(text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])


async def _metrics_of_all_processes() -> bytes:
    """The metrics of the processes' files, read again where one of them is just being created or removed."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    for tries_left in reversed(range(_READS)):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        try:
            return generate_latest(registry)
        except (struct.error, RuntimeError, ValueError, OSError):
            if not tries_left:
                raise
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


async def openapi(gateway: "Gateway", caller: "Caller", _: Mapping[str, Any], reply: Reply) -> None:
    """``GET /openapi.json``: the document of the gateway's own routes."""
    await reply.send(_document(), [(b"content-type", b"application/json")])


@cache
def _document() -> bytes:
    return dump(document())
