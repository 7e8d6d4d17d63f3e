"""Every Prometheus metric. Labels are names from the policy file and words of small fixed sets, never values of a run.

With ``PROMETHEUS_MULTIPROC_DIR`` set, prometheus_client adds up all processes' counters and histograms in what it exposes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cascade.engine.outcome import attempts_of, result_of, run_reason
from cascade.promise.states import PromiseState, PromiseTracker
from cascade.promise.traffic import CheckResult, DriftState
from cascade.resilience.breaker import BreakerState
from cascade.result import CallRecord, Result
from cascade.util.totals import total
from judges import Prompt

from .outcomes import VerdictLabel, failure
from .registry import RegistryMetrics

if TYPE_CHECKING:
    from cascade.engine.plan import CompiledPolicy

M = TypeVar("M", Counter, Histogram)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
BREAKER_GAUGE = "cascade_breaker_state"
BREAKER_STATES: dict[BreakerState, int] = {"closed": 0, "half_open": 1, "open": 2}
_CANARIES = {"running": 0, "promoted": 1, "aborted": 2}
_DRIFTS = {DriftState.ALIKE: 0, DriftState.NOT_ENOUGH: 1, DriftState.IN_DOUBT: 2, DriftState.DRIFTED: 3}
_PROMISES = {
    PromiseState.HOLDS: 0,
    PromiseState.NOT_ENOUGH: 1,
    PromiseState.IN_DOUBT: 2,
    PromiseState.BROKEN: 3,
}
_SHARES = tuple(i / 20 for i in range(1, 21))


@dataclass(slots=True, eq=False)
class _Children(Generic[M]):
    """A metric's children by their labels' values: prometheus_client checks and locks at each look-up."""

    _metric: M
    _children: dict[tuple[str, ...], M] = field(default_factory=dict)

    def labels(self, *values: str) -> M:
        """See prometheus_client."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


class Metrics(RegistryMetrics):
    """The metrics of one registry, which all Cascades of a process share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_text: str, labels: tuple[str, ...]) -> "_Children[Counter]":
            return _Children(Counter(name, help_text, labels, registry=registry))

        def histogram(
            name: str, help_text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
        ) -> "_Children[Histogram]":
            return _Children(Histogram(name, help_text, labels, buckets=buckets, registry=registry))

        self._runs = counter(
            "cascade_runs",
            "Runs by how they ended; tier is that of the answer",
            (
                "kind",
                "policy",
                "tier",
                "reason",
                "accepted",
            ),
        )
        self._run_seconds = histogram("cascade_run_seconds", "Seconds of a run", ("policy",), _SECONDS)
        self._confidence = histogram(
            "cascade_run_confidence", "Confidence of the answer returned", ("policy", "tier"), _SHARES
        )
        self._escalations = counter(
            "cascade_escalations",
            "Tiers that were escalated from, by reason",
            (
                "policy",
                "tier",
                "reason",
            ),
        )
        self._run_usd = counter("cascade_run_cost_usd", "USD spent by runs whose cost is known", ("policy",))
        self._premium_usd = counter(
            "cascade_run_premium_usd", "USD that the last tier alone would have cost, estimated, where known", ("policy",)
        )
        self._unpriced = counter("cascade_runs_unpriced", "Runs whose cost is unknown", ("policy",))
        self._calls = counter(
            "cascade_calls",
            "Requests to models: ok, or why there was no answer",
            (
                "model",
                "outcome",
            ),
        )
        self._call_seconds = histogram("cascade_call_seconds", "Seconds of a request", ("model",), _SECONDS)
        self._call_usd = counter("cascade_call_cost_usd", "USD of the requests whose cost is known", ("model",))
        self._tokens = counter(
            "cascade_call_tokens",
            "Tokens, input or output",
            (
                "model",
                "kind",
            ),
        )
        self._breakers = Gauge(
            BREAKER_GAUGE,
            "A model's circuit breaker: 0 closed, 1 half open, 2 open; the worst of all live processes",
            ("model",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._promise_state = Gauge(
            "cascade_promise_state",
            "The state of a policy's promise: 0 kept, 1 not enough evidence, 2 in doubt, 3 broken",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._promise_labels = Gauge(
            "cascade_promise_labels",
            "Labels of sampled runs that a policy's promise was tested with",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._promise_needed = Gauge(
            "cascade_promise_labels_needed",
            "Roughly how many more labels like these show that a policy's promise is kept; +Inf: no number of them does",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._promise_loss = Gauge(
            "cascade_promise_mean_loss",
            "Their weighted mean loss against premium",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._drift_state = Gauge(
            "cascade_drift_state",
            "How a policy's runs compare with its recording: 0 like it, 1 not enough evidence, 2 in doubt, 3 drifted",
            ("policy", "check"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._drift_needed = Gauge(
            "cascade_drift_needed",
            "Roughly how many more runs (or labels) show that a check is like the recording; +Inf: no number does",
            ("policy", "check"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._drift_runs = Gauge(
            "cascade_drift_runs",
            "Runs of a policy that were compared with its recording",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._canary_runs = counter(
            "cascade_canary_runs",
            "Runs of a policy with a canary by their calibration, present or candidate",
            ("policy", "calibration", "accepted"),
        )
        self._canary_state = Gauge(
            "cascade_canary_state",
            "The state of a policy's canary: 0 running, 1 promoted, 2 aborted",
            ("policy",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._shadows = counter(
            "cascade_shadow_requests", "Shadow requests by how they ended: done, failed, skipped", ("policy", "state")
        )
        self._shadow_usd = counter("cascade_shadow_cost_usd", "USD of the shadow requests whose cost is known", ("policy",))
        self._verdicts = counter(
            "cascade_judge_verdicts",
            "What judges said",
            (
                "judge",
                "verdict",
            ),
        )

    def run(
        self, kind: str, policy: str, compiled: "CompiledPolicy", prompt: Prompt, outcome: Result | BaseException | None
    ) -> None:
        """Counts a run that ended."""
        result, attempts = result_of(outcome), attempts_of(outcome)
        accepted = result is not None and result.accepted
        tier = result.tier if result is not None else "none"
        self._runs.labels(kind, policy, tier, run_reason(outcome), str(accepted).lower()).inc()
        for attempt in attempts[:-1]:
            self._escalations.labels(policy, attempt.tier, attempt.reason).inc()
        if result is not None:
            if result.canary is not None:
                self._canary_runs.labels(policy, result.canary, str(accepted).lower()).inc()
            self._confidence.labels(policy, tier).observe(result.confidence)
        if not attempts:
            return  # it was cancelled or never began: what it spent is with its calls
        self._run_seconds.labels(policy).observe(sum(a.latency_s for a in attempts))
        usd = result.cost_usd if result is not None else total(a.cost_usd for a in attempts)
        if usd is None:
            self._unpriced.labels(policy).inc()
        else:
            self._run_usd.labels(policy).inc(usd)
        premium = None if kind == "gate" else compiled.premium_usd(prompt, attempts, result)
        if premium is not None:
            self._premium_usd.labels(policy).inc(premium)

    def call(self, record: CallRecord) -> None:
        """Counts a request that ended."""
        model = record.model
        self._calls.labels(model, failure(record) or "ok").inc()
        self._call_seconds.labels(model).observe(record.latency_s)
        if record.cost_usd is not None:
            self._call_usd.labels(model).inc(record.cost_usd)
        if record.usage is not None:
            self._tokens.labels(model, "input").inc(record.usage.input_tokens)
            self._tokens.labels(model, "output").inc(record.usage.output_tokens)

    def verdict(self, judge: str, label: VerdictLabel) -> None:
        """Counts a verdict."""
        self._verdicts.labels(judge, label).inc()

    def shadow(self, policy: str, state: str, cost_usd: float | None) -> None:
        """Counts a shadow request that ended."""
        self._shadows.labels(policy, state).inc()
        if cost_usd is not None:
            self._shadow_usd.labels(policy).inc(cost_usd)

    def promise(self, policy: str, tracker: PromiseTracker) -> None:
        """Records the state of a policy's promise."""
        self._promise_state.labels(policy).set(_PROMISES[tracker.state])
        self._promise_labels.labels(policy).set(tracker.n)
        self._promise_needed.labels(policy).set(_or_infinite(tracker.labels_needed))
        if tracker.mean_loss is not None:
            self._promise_loss.labels(policy).set(tracker.mean_loss)

    def drift(self, policy: str, runs: int, checks: Sequence[CheckResult]) -> None:
        """Records how a policy's traffic compares with its recording."""
        self._drift_runs.labels(policy).set(runs)
        for check in checks:
            self._drift_state.labels(policy, check.name).set(_DRIFTS[check.state])
            self._drift_needed.labels(policy, check.name).set(_or_infinite(check.needed))

    def canary(self, policy: str, state: str) -> None:
        """Records the state of a policy's canary."""
        self._canary_state.labels(policy).set(_CANARIES[state])

    def breaker(self, model: str, state: BreakerState) -> Callable[[BreakerState], None]:
        """Records a breaker's state; returns the function that records later states."""
        gauge = self._breakers.labels(model)

        def set_state(state: BreakerState) -> None:
            gauge.set(BREAKER_STATES[state])

        set_state(state)
        return set_state


def _or_infinite(count: int | None) -> float:
    return float("inf") if count is None else float(count)
