"""The Prometheus names of the gateway's requests."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from .registry import RegistryMetrics


class HttpMetrics(RegistryMetrics):
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
