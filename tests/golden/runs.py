"""Runs the policies beside it, journaled and traced; prints every span as JSON: ``runs.py LIBRARY POLICIES.YAML``."""

import json
import sys
from importlib import import_module
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PROMPT = "What is 17 * 3? Reply with the number only."
NUMBER = {"type": "integer", "minimum": 0}


def main(library: str, path: str) -> None:
    """Runs that succeed, escalate, fail and are graded afterwards."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    public: Any = import_module(library)
    with public.Cascade(path) as service:
        result = service.run(PROMPT, schema=NUMBER, tags={"user": "ana", "beta": True, "n": 3, "share": 0.5})
        service.feedback(result.run_id, quality=1.0, note="confirmed")
        service.run(PROMPT, policy="silent")
        service.gate(PROMPT, "51", tier="premium")
        service.run(PROMPT, policy="unpriced")
        try:
            service.run(PROMPT, policy="broken")
        except public.RunError as error:
            print(type(error).__name__, file=sys.stderr)
    spans = [
        {
            "scope": span.instrumentation_scope.name,
            "name": span.name,
            "kind": span.kind.name,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes),
            "events": [{"name": event.name, "attributes": dict(event.attributes)} for event in span.events],
        }
        for span in exporter.get_finished_spans()
    ]
    print(json.dumps(spans))


if __name__ == "__main__":
    main(*sys.argv[1:])
