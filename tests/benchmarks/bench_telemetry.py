"""What telemetry costs a run: off against absent, and on; prints JSON, fails where being off costs anything."""

import asyncio
import json
import statistics
import sys
from time import perf_counter
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from cascade import Answer, Cascade, Policy, Prompt, ScriptedModel, Usage
from cascade.policy.schema import TelemetrySpec
from cascade.telemetry import Telemetry

GOOD = Answer("42", mean_logprob=-0.01, finish_reason="stop", cost_usd=1e-5, usage=Usage(100, 10))
ROUNDS, RUNS = 41, 300


class Dropping(SpanExporter):
    """Takes spans and forgets them: what an exporter costs is its own affair."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def make(telemetry: Any) -> Cascade:
    """One tier with three judges."""
    policy = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.5, "judges": ["schema", "rules", "logprob"]}]})
    return Cascade(policy, models={"m": ScriptedModel("m", [GOOD], keep_calls=False)}, telemetry=telemetry)


async def per_run_us(cascade: Cascade, prompt: Prompt) -> float:
    """Microseconds of one run, the mean of RUNS."""
    start = perf_counter()
    for _ in range(RUNS):
        await cascade.arun(prompt)
    return (perf_counter() - start) / RUNS * 1e6


async def measure() -> dict[str, float]:
    """Medians over interleaved rounds; ratios are of neighbours in time."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Dropping()))
    prompt = Prompt.of("What is 6 * 7?")
    cascades = {
        "absent": make(None),
        "off": make(TelemetrySpec.model_validate({})),
        "traces_without_sdk": make(Telemetry(traces=True)),
        "traces": make(Telemetry(traces=True, tracer_provider=provider)),
        "traces_content": make(Telemetry(traces=True, content=True, tracer_provider=provider)),
        "metrics": make(Telemetry(metrics=True, registry=CollectorRegistry())),
    }
    samples: dict[str, list[float]] = {name: [] for name in cascades}
    for _ in range(ROUNDS):
        for name, cascade in cascades.items():
            samples[name].append(await per_run_us(cascade, prompt))
    medians = {f"{name}_us": statistics.median(values) for name, values in samples.items()}
    off = [a / b for a, b in zip(samples["off"], samples["absent"], strict=True)]
    return {**medians, "off_ratio": statistics.median(off)}


def main() -> int:
    """Measures; being off may cost nothing that can be seen."""
    results = asyncio.run(measure())
    ok = results["off_ratio"] <= 1.05
    rounded = {k: round(v, 3) for k, v in results.items()}
    print(json.dumps({"telemetry": {**rounded, "targets": {"off_ratio": 1.05}, "n": ROUNDS * RUNS, "ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
