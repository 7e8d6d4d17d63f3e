"""One tier's turn in a run: ask its model or a fallback, judge the answer, decide after each judge."""

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from cascade.costs.budget import LimitReached, RunBudget
from cascade.models.protocol import ModelError, Request
from cascade.result import Action, Attempt, Decision, Reason, Stage
from cascade.util.totals import plus
from judges import Answer, Judge, Prompt, Verdict
from judges.protocol import JudgeInput

from .calls import DEFAULT_REQUEST, JudgeModelAccess, call_model
from .confidence import agreement, calibrated, combine
from .decide import decide
from .plan import CompiledPolicy, CompiledTier

if TYPE_CHECKING:
    from .streaming import EventStream


class TierAttempt:
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
        "request",
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
        ladder: CompiledPolicy,
        tier: CompiledTier,
        prompt: Prompt,
        spend: RunBudget,
        *,
        later: int = 0,
        ends: float | None = None,
        decided: bool = True,
        given: bool = False,
        earlier: Sequence[Attempt] = (),
        feed: "EventStream | None" = None,
        request: Request = DEFAULT_REQUEST,
    ) -> None:
        self.request = request
        self.ladder, self.tier, self.prompt, self.spend = ladder, tier, prompt, spend
        self.later, self.ends, self.decided = later, ends, decided
        self.given, self.earlier, self.feed = given, earlier, feed
        self.stages: list[Stage] = []
        self.decisions: list[Decision] = []
        self.compared: dict[str, float | None] | None = None
        self.answer: Answer | None = None
        self.asker: JudgeModelAccess | None = None
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
                answers = await call_model(seat, self.prompt, self.request, self.spend, self.ends, ask=ask, others=others)
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
        tier, stage, observer = self.tier, -1, self.ladder.observer
        asker = self.asker = JudgeModelAccess(
            self.seat, self.ladder.seats, self.prompt, self.spend, self.ends, self.later, self.request
        )
        self.confidence = self._confidence(stage)
        action = Action.JUDGE if tier.judges or not self.decided else self._decide(stage)
        for stage, judge in enumerate(tier.judges):
            asker.judge = judge.name
            taken, failed = len(self.verdicts), False
            try:
                verdict = self._recorded(judge.name)
                if verdict is None:
                    said = judge.judge(JudgeInput(prompt=self.prompt, answer=self.answer, ask=asker))
                    verdict = said if isinstance(said, Verdict) else await said
            except LimitReached as limit:
                self.reason, self.error = limit.reason, f"stopped in judge {judge.name!r}: {limit}"
                return
            except Exception as error:
                failed = True
                if observer is not None:
                    observer.verdict(tier.name, judge, error)
                if not self._survives(judge.name, error):
                    return
                verdict = Verdict(judge.name, reason=f"judge failed: {_brief(error)}")
            if not await self._take(verdict, judge, stage):
                return
            if self.feed is not None:
                self.feed.judged(self.verdicts)
            if observer is not None and not failed:
                for given in self.verdicts[taken:]:
                    observer.verdict(tier.name, judge, given)
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
        if name not in self.answer.verdicts:
            return None
        score = self.answer.verdicts[name]
        usd = self.answer.extra.get("verdict_cost_usd") or {}
        self._pay_judge(usd.get(name, 0.0))
        return Verdict(name, score, reason="" if score is not None else "could not tell when it was recorded")

    def _pay_judge(self, usd: float | None) -> None:
        """A verdict that was recorded with the answer has its cost, too."""
        self.spend.settle(usd)
        self.spend.charged += usd or 0.0
        self.judge_usd = plus(self.judge_usd, usd)

    def _survives(self, name: str, error: Exception) -> bool:
        """A judge's failure is never a low score: the policy says whether to raise, escalate or go on without it."""
        rule = self.ladder.policy.on_judge_error
        if rule == "raise":
            raise error
        if rule == "escalate":
            self.reason, self.error = "judge_failure", f"judge {name!r} failed: {_brief(error)}"
        return rule == "ignore"

    async def _take(self, verdict: Verdict, judge: Judge, stage: int) -> bool:
        """Adds a verdict; False where the attempt ends because a judge failed that had to be run again."""
        self.verdicts.append(verdict)
        self.vetoed = self.vetoed or verdict.veto
        if verdict.answer is None:
            return True
        if self.given and not judge.only_vetoes:
            # The caller's own answer is judged: that the model's samples agree on another one speaks against it.
            self.verdicts[-1] = Verdict(
                verdict.judge, veto=True, reason="the samples agree on another answer", details=verdict.details
            )
            self.vetoed = True
            return True
        self.answer = verdict.answer
        if judge.only_vetoes or verdict.veto:
            return True
        # Another answer takes the place of the one that the earlier judges let pass: it must pass them too.
        for earlier in self.tier.judges[:stage]:
            if earlier.only_vetoes and not await self._again(earlier):
                return False
        return True

    async def _again(self, judge: Judge) -> bool:
        assert self.answer is not None
        try:
            pending = judge.judge(JudgeInput(prompt=self.prompt, answer=self.answer))
            verdict = pending if isinstance(pending, Verdict) else await pending
        except Exception as error:
            if self.ladder.observer is not None:
                self.ladder.observer.verdict(self.tier.name, judge, error)
            return self._survives(judge.name, error)
        if verdict.answer is not None:
            self.answer = verdict.answer
        if verdict.veto:
            self.vetoed = True
            self.verdicts.append(verdict)
        return True

    def record(self) -> Attempt:
        """The trial so far as an Attempt."""
        log = self.spend.log[self.log_before :]
        judge_usd = usd = self.judge_usd
        for call in log:
            usd = plus(usd, call.cost_usd)
            if call.purpose != "answer":
                judge_usd = plus(judge_usd, call.cost_usd)
        waited = self.asker.latency if self.asker is not None else 0.0
        latency = perf_counter() - self.started if self.latency is None else self.latency + waited
        return Attempt(
            tier=self.tier.name,
            model=self.answer.model if self.answer is not None and self.answer.model else self.seat.model.name,
            answer=self.answer,
            verdicts=tuple(self.verdicts),
            confidence=self.confidence,
            vetoed=self.vetoed,
            cost_usd=usd,
            judge_cost_usd=judge_usd,
            latency_s=latency,
            calls=self.spend.calls - self.spend_before,
            reason=self.reason,
            error=self.error,
            # The mappings were fitted for the tier's own model; for a fallback they are the best guess there is.
            calibrated=bool(self.tier.calibrators) and self.seat is self.tier.seat,
            stages=tuple(self.stages),
            decisions=tuple(self.decisions),
            call_log=tuple(log),
        )


def _brief(error: BaseException) -> str:
    """The kind of a judge's error, and its text only where it is our own: others may quote the prompt."""
    own = isinstance(error, ModelError)
    return str(error)[:200] if own else type(error).__name__
