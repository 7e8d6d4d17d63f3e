"""The Prometheus names of the gateway's requests."""

from collections.abc import Mapping
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
        self._registry = registry
        self._state: _StateMetrics | None = None
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

    def shared_state(self, away: bool, refused: int, unshared: int) -> None:
        """Sets whether the shared state's store is unavailable, and the requests so far that were decided on without it."""
        if self._state is None:
            self._state = _StateMetrics(self._registry)
        self._state.set(away, {"closed": refused, "open": unshared})


class _StateMetrics:
    """The store of shared budgets and key rates, where there is one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._available = Gauge(
            "cascade_state_available",
            "Whether the store of shared budgets and key rates can be used: 1, or 0 in at least one live process",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._without = Counter(
            "cascade_state_unavailable_requests",
            "Requests under shared limits while their store was unavailable, by the rule that decided on them",
            ("rule",),
            registry=registry,
        )
        self._counted = dict.fromkeys(("closed", "open"), 0)
        for rule in self._counted:
            self._without.labels(rule)

    def set(self, away: bool, totals: Mapping[str, int]) -> None:
        """Sets the present state and the requests so far by rule."""
        self._available.set(0 if away else 1)
        for rule, total in totals.items():
            if more := max(0, total - self._counted[rule]):
                self._without.labels(rule).inc(more)
            self._counted[rule] = total
