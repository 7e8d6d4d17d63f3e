"""One run: ask the tier, judge, decide, again."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING

from judges import Answer, Judge, Prompt, Verdict
from judges.judge import Case

from .asking import PLAIN, AskAgain, Seat, call
from .budget import Ledger, LimitReached, Spend, today
from .calibration import Calibrator
from .confidence import agreement, calibrated, combine
from .decide import Action, Thresholds, decide
from .errors import BudgetError, DeadlineError, ProviderError, RunError, UnsureError
from .models.model import ModelError
from .policy import Policy
from .resilience import within
from .result import Attempt, Decision, Reason, Result, Stage, new_run_id

if TYPE_CHECKING:
    from .streaming import Feed
    from .telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier of a policy, ready to run. ``calibrators``: one for each judge prefix, the empty one first; or none at all."""

    name: str
    seat: Seat
    thresholds: Thresholds
    prior: float
    judges: tuple[Judge, ...]
    calibrators: tuple[Calibrator, ...] = ()
    fallbacks: tuple[Seat, ...] = ()  # asked in turn where the tier's own model fails
    compares: bool = False  # whether a calibrator reads agreement with the answers of earlier tiers


@dataclass(frozen=True, slots=True)
class Ladder:
    """A policy, ready to run: its tiers in order and every model that its judges may ask.

    ``daily`` are the budgets that its runs share with others, USD a UTC day by scope, kept by ``ledger``.
    """

    policy: Policy
    tiers: tuple[Tier, ...]
    seats: dict[str, Seat]
    ledger: Ledger | None = None
    daily: tuple[tuple[str, float], ...] = ()
    telemetry: "Telemetry | None" = None


def spend_of(ladder: Ladder, budget_usd: float | None = None) -> Spend:
    """What a run of the ladder may spend; ``budget_usd`` replaces the policy's."""
    policy = ladder.policy
    limits = _limits_of(today(), ladder.daily) if ladder.daily else {}
    budget = policy.budget_usd if budget_usd is None else budget_usd
    return Spend(policy.max_calls, budget, policy.max_samples, limits, ladder.ledger)


@lru_cache(maxsize=64)
def _limits_of(day: str, daily: tuple[tuple[str, float], ...]) -> Mapping[str, float]:
    return {f"{day} {scope}": usd for scope, usd in daily}


async def run(
    ladder: Ladder,
    prompt: Prompt,
    *,
    budget_usd: float | None = None,
    deadline_s: float | None = None,
    run_id: str | None = None,
    attempts: list[Attempt] | None = None,
    feed: "Feed | None" = None,
) -> Result:
    """Climbs the ladder until an answer is accepted or a limit is reached. Raises RunError where there is no answer.

    ``run_id`` is made where it is not given. ``attempts`` is filled as the run goes, so that whoever gave it has them even
    where the run is cancelled. ``feed`` is told what happens, and asks the tiers' models in the engine's place.
    """
    run_id = run_id or new_run_id()
    policy = ladder.policy
    seconds = policy.deadline_s if deadline_s is None else deadline_s
    spend = spend_of(ladder, budget_usd)
    attempts = [] if attempts is None else attempts
    if seconds is None:
        reason = await _climb(ladder, prompt, spend, attempts, [], None, feed)
    else:
        trials: list[Trial] = []
        ends = asyncio.get_running_loop().time() + seconds
        ended = await within(ends, _climb(ladder, prompt, spend, attempts, trials, ends, feed))
        reason = ended or "deadline"
        if len(attempts) < len(trials):  # the last one does not let itself be cancelled; it may do nothing more
            attempts.append(trials[-1].record())
            spend.closed = True
    return finish(policy, attempts, reason, spend.usd, run_id)


async def _climb(
    ladder: Ladder,
    prompt: Prompt,
    spend: Spend,
    attempts: list[Attempt],
    trials: "list[Trial]",
    ends: float | None,
    feed: "Feed | None",
) -> Reason:
    last = len(ladder.tiers) - 1
    reason: Reason = "unsure"
    for i, tier in enumerate(ladder.tiers):
        attempt = Trial(ladder, tier, prompt, spend, later=last - i, ends=ends, earlier=attempts, feed=feed)
        trials.append(attempt)
        try:
            await attempt.run()
        finally:
            # A cancelled attempt keeps its answer: it may be the best that the deadline allowed.
            if not spend.closed:
                attempts.append(attempt.record())
        reason = attempt.reason
        stops = i == last or reason in ("accepted", "budget", "max_calls", "max_samples")
        if feed is not None:
            feed.ended(attempts[-1], None if stops else ladder.tiers[i + 1].name)
        if stops:
            break
    return reason


class Trial:
    """One tier's turn in one run; ``later`` tiers may follow it.

    ``decided=False`` asks every judge and compares nothing with a threshold.
    """

    __slots__ = (
        "answer",
        "asker",
        "compared",
        "confidence",
        "decided",
        "decisions",
        "earlier",
        "ends",
        "error",
        "feed",
        "given",
        "judge_usd",
        "ladder",
        "latency",
        "later",
        "log_before",
        "prompt",
        "reason",
        "seat",
        "spend",
        "spend_before",
        "stages",
        "started",
        "tier",
        "verdicts",
        "vetoed",
    )  # fmt: skip

    def __init__(
        self,
        ladder: Ladder,
        tier: Tier,
        prompt: Prompt,
        spend: Spend,
        *,
        later: int = 0,
        ends: float | None = None,
        decided: bool = True,
        given: bool = False,
        earlier: Sequence[Attempt] = (),
        feed: "Feed | None" = None,
    ) -> None:
        self.ladder, self.tier, self.prompt, self.spend = ladder, tier, prompt, spend
        self.later, self.ends, self.decided = later, ends, decided
        self.given, self.earlier, self.feed = given, earlier, feed
        self.stages: list[Stage] = []
        self.decisions: list[Decision] = []
        self.compared: dict[str, float | None] | None = None
        self.answer: Answer | None = None
        self.asker: AskAgain | None = None
        self.verdicts: list[Verdict] = []
        self.confidence, self.vetoed = 0.0, False
        self.seat = tier.seat
        self.judge_usd: float | None = 0.0
        self.reason: Reason = "deadline"  # what stands if the trial is cut short
        self.error: str | None = None
        self.latency: float | None = None
        self.started = perf_counter()
        self.spend_before, self.log_before = spend.calls, len(spend.log)

    async def run(self) -> None:
        """Asks the tier's model, or where it fails the tier's fallbacks in turn, and judges what the first one says."""
        feed = self.feed
        if feed is not None:
            feed.started(self.tier, not self.later)
        ask = None if feed is None else feed.ask
        faults: list[str] = []
        seats = (self.tier.seat, *self.tier.fallbacks)
        for i, seat in enumerate(seats, 1):
            self.seat = seat
            others = len(seats) - i + self.later
            try:
                answers = await call(seat, self.prompt, PLAIN, self.spend, self.ends, ask=ask, others=others)
            except LimitReached as limit:
                self.reason, self.error = limit.reason, f"stopped before the call: {limit}"
                return
            except ModelError as error:
                faults.append(str(error))
                continue
            await self.judge(answers[0])
            return
        self.reason, self.error = "provider_failure", "; ".join(faults)

    async def judge(self, answer: Answer) -> None:
        """Runs the tier's judges over ``answer`` until one stage decides."""
        self.answer, self.latency = answer, answer.latency_s
        tier, stage, telemetry = self.tier, -1, self.ladder.telemetry
        asker = self.asker = AskAgain(self.seat, self.ladder.seats, self.prompt, self.spend, self.ends, self.later)
        self.confidence = self._confidence(stage)
        action = Action.JUDGE if tier.judges or not self.decided else self._decide(stage)
        for stage, judge in enumerate(tier.judges):
            asker.judge = judge.name
            taken, failed = len(self.verdicts), False
            try:
                verdict = self._recorded(judge.name)
                if verdict is None:
                    said = judge.judge(Case(prompt=self.prompt, answer=self.answer, ask=asker))
                    verdict = said if isinstance(said, Verdict) else await said
            except LimitReached as limit:
                self.reason, self.error = limit.reason, f"stopped in judge {judge.name!r}: {limit}"
                return
            except Exception as error:
                failed = True
                if telemetry is not None:
                    telemetry.verdict(tier.name, judge, error)
                if not self._survives(judge.name, error):
                    return
                verdict = Verdict(judge.name, reason=f"judge failed: {_brief(error)}")
            self._take(verdict, judge, stage)
            if self.feed is not None:
                self.feed.judged(self.verdicts)
            if telemetry is not None and not failed:
                for given in self.verdicts[taken:]:
                    telemetry.verdict(tier.name, judge, given)
            self.confidence = self._confidence(stage)
            if not self.decided:
                record = self.record()
                self.stages.append(Stage(judge.name, self.vetoed, record.cost_usd, record.latency_s, self.answer))
            if self.decided:
                action = self._decide(stage)
                if action is not Action.JUDGE:
                    break
            elif self.vetoed:
                break
        if action is Action.ACCEPT:
            self.reason = "accepted"
        else:
            self.reason = "vetoed" if self.vetoed else "unsure"

    def _confidence(self, stage: int) -> float:
        """The confidence after judge number ``stage`` (-1: before the first), calibrated where the tier is."""
        tier = self.tier
        if not tier.calibrators:
            return combine(self.verdicts, tier.prior)
        assert self.answer is not None
        if not tier.compares:
            return calibrated(tier.calibrators[stage + 1], self.verdicts)
        self.compared = agreement(self.answer, [a.answer for a in self.earlier])
        return calibrated(tier.calibrators[stage + 1], self.verdicts, dict(self.compared))

    def _decide(self, stage: int) -> Action:
        action = decide(self.tier.thresholds, stage, self.confidence, vetoed=self.vetoed, last_tier=not self.later)
        self.decisions.append(Decision(stage, self.confidence, self.vetoed, action, self.compared))
        return action

    def _recorded(self, name: str) -> Verdict | None:
        """The verdict that was recorded with the answer, if there is one."""
        assert self.answer is not None
        score = self.answer.verdicts.get(name)
        if score is None:
            return None
        usd = self.answer.extra.get("verdict_cost_usd") or {}
        self._pay_judge(usd.get(name, 0.0))
        return Verdict(name, score)

    def _pay_judge(self, usd: float | None) -> None:
        """A verdict that was recorded with the answer has its cost, too."""
        self.spend.settle(usd)
        self.spend.charged += usd or 0.0
        self.judge_usd = None if usd is None or self.judge_usd is None else self.judge_usd + usd

    def _survives(self, name: str, error: Exception) -> bool:
        """A judge's failure is never a low score: the policy says whether to raise, escalate or go on without it."""
        rule = self.ladder.policy.on_judge_error
        if rule == "raise":
            raise error
        if rule == "escalate":
            self.reason, self.error = "judge_failure", f"judge {name!r} failed: {_brief(error)}"
        return rule == "ignore"

    def _take(self, verdict: Verdict, judge: Judge, stage: int) -> None:
        self.verdicts.append(verdict)
        self.vetoed = self.vetoed or verdict.veto
        if verdict.answer is None:
            return
        if self.given and not judge.only_vetoes:
            # The caller's own answer is judged: that the model's samples agree on another one speaks against it.
            self.verdicts[-1] = Verdict(
                verdict.judge, None, True, "the samples agree on another answer", None, verdict.details
            )
            self.vetoed = True
            return
        self.answer = verdict.answer
        if judge.only_vetoes or verdict.veto:
            return
        # Another answer takes the place of the one that the earlier judges let pass: it must pass them too.
        for earlier in self.tier.judges[:stage]:
            if earlier.only_vetoes:
                again = earlier.judge(Case(prompt=self.prompt, answer=self.answer))
                if isinstance(again, Verdict):
                    if again.answer is not None:
                        self.answer = again.answer
                    if again.veto:
                        self.vetoed = True
                        self.verdicts.append(again)

    def record(self) -> Attempt:
        """The trial so far as an Attempt."""
        log = self.spend.log[self.log_before :]
        judged, total = self.judge_usd, self.judge_usd
        for made in log:
            total = None if total is None or made.cost_usd is None else total + made.cost_usd
            if made.purpose != "answer":
                judged = None if judged is None or made.cost_usd is None else judged + made.cost_usd
        waited = self.asker.latency if self.asker is not None else 0.0
        latency = perf_counter() - self.started if self.latency is None else self.latency + waited
        return Attempt(
            self.tier.name,
            self.answer.model if self.answer is not None and self.answer.model else self.seat.model.name,
            self.answer,
            tuple(self.verdicts),
            self.confidence,
            self.vetoed,
            total,
            judged,
            latency,
            self.spend.calls - self.spend_before,
            self.reason,
            self.error,
            # The mappings were fitted for the tier's own model; for a fallback they are the best guess there is.
            bool(self.tier.calibrators) and self.seat is self.tier.seat,
            tuple(self.stages),
            tuple(self.decisions),
            tuple(log),
        )


def _brief(error: BaseException) -> str:
    """The kind of a judge's error, and its text only where it is our own: others may quote the prompt."""
    own = isinstance(error, ModelError)
    return str(error)[:200] if own else type(error).__name__


def finish(
    policy: Policy, attempts: Sequence[Attempt], reason: Reason, usd: float | None, run_id: str | None = None
) -> Result:
    """The result of a run that made ``attempts`` and ended for ``reason``. Raises RunError where nothing was answered."""
    done = tuple(attempts)
    run_id = run_id or new_run_id()
    latency = sum(a.latency_s for a in done)
    chosen = done[-1] if reason == "accepted" else best(done)
    if chosen is None:
        raise _nothing(reason, done, run_id)
    last = policy.tiers[-1]
    if policy.final == "best" and done[-1].tier == last.name and reason in ("accepted", "unsure", "vetoed"):
        # The last tier was asked and judged: its answer is only one of those that may be the best.
        chosen = best(done) or chosen
        if not chosen.vetoed and chosen.confidence >= last.accept_at:
            reason = "accepted"
    answer = chosen.answer
    assert answer is not None
    result = Result(
        answer.text,
        answer.parsed,
        chosen.confidence,
        reason == "accepted",
        chosen.tier,
        chosen.model,
        usd,
        latency,
        done,
        reason,
        run_id,
        answer,
        chosen.calibrated,
    )
    if result.accepted or policy.when_unsure == "best":
        return result
    if policy.when_unsure == "raise":
        raise UnsureError(f"no answer was accepted ({reason}); best confidence {chosen.confidence:.2f}", result)
    return replace(result, text="", parsed=None, answer=None)


def best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The best answer so far: one without a veto before one with, then the most confident, then the highest tier."""
    answered = [(not a.vetoed, a.confidence, i) for i, a in enumerate(attempts) if a.answer is not None]
    return attempts[max(answered)[2]] if answered else None


def _nothing(reason: Reason, attempts: tuple[Attempt, ...], run_id: str) -> RunError:
    tried = "; ".join(f"{a.tier} ({a.model}): {a.error or a.reason}" for a in attempts) or "nothing was tried"
    if reason == "deadline":
        return DeadlineError(f"the deadline passed before any answer: {tried}", attempts, run_id)
    if reason in ("budget", "max_calls", "max_samples"):
        return BudgetError(f"the run's {reason} limit allowed no answer: {tried}", attempts, run_id)
    return ProviderError(f"no tier answered: {tried}", attempts, run_id)
