"""Observability of a Cascade's runs: OpenTelemetry spans, Prometheus metrics, or both.

Spans follow the GenAI semantic conventions (``traces.py`` holds every name), metrics are in ``metrics.py``. Neither holds
a prompt, an answer, a judge's words or a provider's unless ``content`` is asked for; keys never.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import PolicyError
from cascade.result import CallRecord, Result
from cascade.util.extras import missing
from judges import Answer, Judge, Prompt, Verdict

from .outcomes import verdict_label

if TYPE_CHECKING:
    from cascade.costs.prices import ModelSettings
    from cascade.engine.plan import CompiledPolicy
    from cascade.models.protocol import Model, Request
    from cascade.promise.states import PromiseTracker
    from cascade.promise.traffic import CheckResult
    from cascade.resilience.breaker import Breaker

    from .metrics import Metrics
    from .traces import CallSpan, RunSpan, Spans

Kind = Literal["run", "gate"]
OnRun = Callable[[Kind, str, "CompiledPolicy", Prompt, Result | BaseException | None], object]


class Telemetry:
    """Reports runs, calls and verdicts to OpenTelemetry and Prometheus.

    Safe for many runs at once, from any number of event loops and threads.

    ``traces``: spans, by ``tracer_provider`` (an OpenTelemetry TracerProvider; None: the process's own). ``metrics``:
    counters and histograms in ``registry`` (a prometheus_client CollectorRegistry; None: the default one). ``content``:
    spans hold the texts of prompts, answers, verdicts and faults, too. ``on_run`` is called with each run that ended: its
    kind, policy, compiled, prompt, and its result or the exception that left it. Raises PolicyError where a package is
    missing.
    """

    def __init__(
        self,
        *,
        traces: bool = False,
        metrics: bool = False,
        content: bool = False,
        tracer_provider: Any = None,
        registry: Any = None,
        on_run: "OnRun | None" = None,
    ) -> None:
        self._on_run = on_run
        self._spans = _spans(tracer_provider, content) if traces else None
        self._metrics = _metrics(registry) if metrics else None

    def watch(self, model: str, breaker: "Breaker") -> None:
        """Reports each state of a model's circuit breaker from now on."""
        if self._metrics is not None:
            breaker.listener = self._metrics.breaker(model, breaker.state)

    def shadow(self, policy: str, state: str, cost_usd: float | None) -> None:
        """Reports a shadow request that ended: "done", "failed" or "skipped", and its cost in USD."""
        if self._metrics is not None:
            self._metrics.shadow(policy, state, cost_usd)

    def promise(self, policy: str, tracker: "PromiseTracker") -> None:
        """Reports the state of a policy's promise."""
        if self._metrics is not None:
            self._metrics.promise(policy, tracker)

    def drift(self, policy: str, runs: int, checks: "Sequence[CheckResult]") -> None:
        """Reports how a policy's traffic compares with its recording."""
        if self._metrics is not None:
            self._metrics.drift(policy, runs, checks)

    def canary(self, policy: str, state: str) -> None:
        """Reports the state of a policy's canary: "running", "promoted" or "aborted"."""
        if self._metrics is not None:
            self._metrics.canary(policy, state)

    def run(self, kind: Kind, policy: str, compiled: "CompiledPolicy", prompt: Prompt) -> "RunObserver":
        """The observer of one run, a context manager; set its ``result`` before leaving it."""
        return RunObserver(
            spans=self._spans,
            metrics=self._metrics,
            on_run=self._on_run,
            kind=kind,
            policy=policy,
            compiled=compiled,
            prompt=prompt,
        )

    def call(
        self, model: "Model", spec: "ModelSettings | None", prompt: Prompt, request: "Request", purpose: str
    ) -> "CallObserver":
        """Starts to observe one request to a provider; ``CallObserver.end`` must follow in the same task."""
        span = None if self._spans is None else self._spans.call(model, spec, prompt, request, purpose)
        return CallObserver(span, self._metrics)

    def verdict(self, tier: str, judge: Judge, outcome: "Verdict | BaseException") -> None:
        """Reports a judge's verdict on an answer, or how the judge failed."""
        label = verdict_label(judge, outcome)
        # An earlier judge may have run again, on the answer with which this judge replaced the first one.
        name = outcome.judge if isinstance(outcome, Verdict) else judge.name
        if self._spans is not None:
            self._spans.verdict(tier, name, outcome, label)
        if self._metrics is not None:
            self._metrics.verdict(name, label)


@dataclass(slots=True)
class CallObserver:
    """Observes one request."""

    _span: "CallSpan | None"
    _metrics: "Metrics | None"

    def end(self, record: CallRecord, answers: Sequence[Answer]) -> None:
        """See ``cascade.engine.observer.CallObserver.end``."""
        if self._span is not None:
            self._span.end(record, answers)
        if self._metrics is not None:
            self._metrics.call(record)


@dataclass(slots=True, kw_only=True)
class RunObserver:
    """Observes one run; an exception is reported by its class name."""

    spans: "Spans | None"
    metrics: "Metrics | None"
    on_run: "OnRun | None"
    kind: Kind
    policy: str
    compiled: "CompiledPolicy"
    prompt: Prompt
    result: Result | None = None
    _span: "RunSpan | None" = None

    def __enter__(self) -> "RunObserver":
        if self.spans is not None:
            self._span = self.spans.run(self.kind, self.policy)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        outcome = error if error is not None else self.result
        if self._span is not None:
            self._span.end(outcome)
        if self.metrics is not None:
            self.metrics.run(self.kind, self.policy, self.compiled, self.prompt, outcome)
        if self.on_run is not None:
            self.on_run(self.kind, self.policy, self.compiled, self.prompt, outcome)


def _spans(provider: Any, content: bool) -> "Spans":
    try:
        from .traces import Spans
    except ModuleNotFoundError as error:
        raise _not_installed("traces", error) from error
    return Spans(provider, content=content)


def _metrics(registry: Any) -> "Metrics":
    try:
        from .metrics import Metrics
    except ModuleNotFoundError as error:
        raise _not_installed("metrics", error) from error
    return Metrics.of(registry)


def _not_installed(key: str, error: ModuleNotFoundError) -> PolicyError:
    return PolicyError(missing(error, f"telemetry.{key}") or f"telemetry.{key}: {error}")
