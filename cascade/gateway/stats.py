"""Statistics of the gateway's runs, updated as each run ends, in memory of a fixed size."""

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from time import time
from typing import Any, NamedTuple

from cascade.engine.outcome import attempts_of, result_of, run_reason
from cascade.engine.plan import CompiledPolicy
from cascade.result import NOT_ASKED, Attempt, Result
from cascade.util.totals import total
from judges import Prompt

from .timeseries import Timeseries

LATEST = 5000
"""Runs over which distributions are computed."""
MOST_ROWS = 50
_DETAILED = 500
_SECONDS = 120
_GRADED = 5000


class FinishedRun(NamedTuple):
    """One run that ended; what is unknown is None. ``premium_s`` is the last tier's latency where it was called."""

    run_id: str
    at: float
    kind: str
    policy: str
    tier: str | None
    model: str | None
    accepted: bool
    reason: str
    confidence: float | None
    calibrated: bool
    cost_usd: float | None
    premium_usd: float | None
    latency_s: float | None
    premium_s: float | None
    tiers: int


class Stats:
    """Counts since the gateway started, and the latest runs. They belong to one event loop."""

    def __init__(self) -> None:
        self.started_at = time()
        self.runs = self.gates = self.accepted = self.unanswered = 0
        self.usd = self.compared_usd = self.premium_usd = 0.0
        self.compared = self.unpriced = 0
        self.tiers: Counter[tuple[str, str]] = Counter()
        self.escalations: Counter[tuple[str, str, str]] = Counter()
        self.endings: Counter[str] = Counter()
        self.latest: deque[FinishedRun] = deque(maxlen=LATEST)
        self.graded: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Confidence and quality of runs with feedback, by run id."""
        self._details: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self.timeseries = Timeseries()
        self._seconds: Counter[int] = Counter()  # runs that ended in each of the last seconds

    def add_run(
        self, kind: str, policy: str, compiled: CompiledPolicy, prompt: Prompt, outcome: Result | BaseException | None
    ) -> None:
        """Adds a run that ended; see ``Telemetry``'s ``on_run``."""
        now = time()
        result, attempts = result_of(outcome), attempts_of(outcome)
        usd = result.cost_usd if result is not None else total(a.cost_usd for a in attempts) if attempts else None
        premium = None if kind == "gate" or not attempts else compiled.premium_usd(prompt, attempts, result)
        last = attempts[-1] if attempts and attempts[-1].tier == compiled.tiers[-1].name else None
        run_id = getattr(result if result is not None else outcome, "run_id", "")
        run = FinishedRun(
            run_id=run_id,
            at=now,
            kind=kind,
            policy=policy,
            tier=result.tier if result is not None else None,
            model=result.model if result is not None else None,
            accepted=result is not None and result.accepted,
            reason=run_reason(outcome),
            confidence=result.confidence if result is not None else None,
            calibrated=result is not None and result.calibrated,
            cost_usd=usd,
            premium_usd=premium,
            latency_s=sum(a.latency_s for a in attempts) if attempts else None,
            premium_s=last.latency_s if last is not None and last.answer is not None else None,
            tiers=sum(a.reason not in NOT_ASKED for a in attempts),
        )
        self._count_second(now)
        self.latest.append(run)
        if kind == "gate":
            self.gates += 1
        else:
            self._count(run, attempts)
        if run_id:
            self._details[run_id] = [_attempt_data(a) for a in attempts]
            if len(self._details) > _DETAILED:
                self._details.popitem(last=False)

    def _count(self, run: FinishedRun, attempts: Sequence[Attempt]) -> None:
        self.runs += 1
        self.timeseries.add(run.at, run.cost_usd, run.premium_usd, run.latency_s)
        self.accepted += run.accepted
        self.endings[run.reason] += 1
        if run.tier is None:
            self.unanswered += 1
        else:
            self.tiers[run.policy, run.tier] += 1
        for attempt in attempts[:-1]:
            self.escalations[run.policy, attempt.tier, attempt.reason] += 1
        if run.cost_usd is None:
            self.unpriced += bool(attempts)
            return
        self.usd += run.cost_usd
        # A run without an accepted answer cost something and saved nothing.
        good = run.accepted or run.reason == "last_tier"
        if run.premium_usd is not None or not good:
            self.compared += 1
            self.compared_usd += run.cost_usd
            self.premium_usd += (run.premium_usd or 0.0) if good else 0.0

    def _count_second(self, now: float) -> None:
        self._seconds[int(now)] += 1
        if len(self._seconds) > _SECONDS:
            del self._seconds[min(self._seconds)]

    def per_second(self, now: float, seconds: int = 60) -> list[int]:
        """Runs that ended in each of the last whole seconds, the latest last."""
        return [self._seconds[int(now) - i] for i in range(seconds, 0, -1)]

    def add_feedback(self, run_id: str, confidence: float, quality: float) -> None:
        """Adds feedback on a run; the latest counts."""
        self.graded.pop(run_id, None)
        self.graded[run_id] = confidence, quality
        if len(self.graded) > _GRADED:
            self.graded.popitem(last=False)

    def find(self, run_id: str) -> FinishedRun | None:
        """One of the latest runs."""
        return next((run for run in reversed(self.latest) if run.run_id == run_id), None)

    def details(self, run_id: str) -> dict[str, Any] | None:
        """One of the latest runs with its attempts and their verdicts; its texts are not kept."""
        attempts = self._details.get(run_id)
        run = self.find(run_id)
        if attempts is None or run is None:
            return None
        return {**run._asdict(), "attempts": attempts}


def _attempt_data(a: Attempt) -> dict[str, Any]:
    return {
        "tier": a.tier,
        "model": a.model,
        "reason": a.reason,
        "answered": a.answer is not None,
        "confidence": a.confidence,
        "calibrated": a.calibrated,
        "vetoed": a.vetoed,
        "cost_usd": a.cost_usd,
        "judge_cost_usd": a.judge_cost_usd,
        "latency_s": a.latency_s,
        "calls": a.calls,
        "verdicts": [{"judge": v.judge, "score": v.score, "veto": v.veto} for v in a.verdicts],
    }
