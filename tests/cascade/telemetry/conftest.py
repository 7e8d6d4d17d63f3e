"""A tracer provider with a real exporter in memory, and a registry of one's own."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from cascade.telemetry import Telemetry


@dataclass
class Watch:
    """What was told: finished spans and the registry's samples."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    provider: TracerProvider = field(default_factory=TracerProvider)

    def __post_init__(self) -> None:
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def telemetry(self, **options: Any) -> Telemetry:
        """Both kinds on, told here."""
        settings = {"traces": True, "metrics": True, "tracer_provider": self.provider, "registry": self.registry}
        return Telemetry(**{**settings, **options})

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The finished spans whose names begin so, in the order they ended."""
        return [s for s in self.exporter.get_finished_spans() if s.name.startswith(name)]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of ``name`` with these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def watch() -> Watch:
    """Nothing told yet."""
    return Watch()
