"""Metrics that exist once for each Prometheus registry, which refuses a second metric of the same name."""

import threading
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry

_lock = threading.Lock()


class RegistryMetrics:
    """A set of metrics in one registry. A subclass creates them in ``__init__``."""

    _by_registry: ClassVar["WeakKeyDictionary[CollectorRegistry, Any]"]

    def __init__(self, registry: CollectorRegistry) -> None:
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        cls._by_registry = WeakKeyDictionary()

    @classmethod
    def of(cls, registry: Any = None) -> Self:
        """The metrics in ``registry`` (None: prometheus_client's default one), created once."""
        registry = REGISTRY if registry is None else registry
        with _lock:
            metrics: Self | None = cls._by_registry.get(registry)
            if metrics is None:
                metrics = cls._by_registry[registry] = cls(registry)
        return metrics
