"""The Prometheus names of the gateway's requests."""

import threading
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

_by_registry: "WeakKeyDictionary[CollectorRegistry, HttpMetrics]" = WeakKeyDictionary()
_lock = threading.Lock()


class HttpMetrics:
    """The gateway's requests in one registry. ``route`` is a path as it is written in the application, never a client's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "cascade_http_requests", "Requests by route and status", ("route", "status"), registry=registry
        )
        self._under_way = Gauge(
            "cascade_http_requests_under_way", "Requests in flight", registry=registry, multiprocess_mode="livesum"
        )
        self._shed = Counter("cascade_http_requests_shed", "Requests rejected: too many at once", registry=registry)
        self._children: dict[tuple[str, int], Any] = {}

    @classmethod
    def of(cls, registry: Any = None) -> "HttpMetrics":
        """The metrics in ``registry`` (None: prometheus_client's default one), made once."""
        registry = REGISTRY if registry is None else registry
        with _lock:
            existing = _by_registry.get(registry)
            if existing is None:
                existing = _by_registry[registry] = cls(registry)
        return existing

    def done(self, route: str, status: int) -> None:
        """Counts a request that was answered (status 499: its client had disconnected)."""
        child = self._children.get((route, status))
        if child is None:
            child = self._children[route, status] = self._requests.labels(route, str(status))
        child.inc()

    def load(self, under_way: int, shed: int) -> None:
        """Sets the number in flight and adds ``shed`` rejected requests; called when the metrics are read."""
        self._under_way.set(under_way)
        if shed:
            self._shed.inc(shed)
