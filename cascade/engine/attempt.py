"""One tier's attempt in a run: calls its model or a fallback, judges the answer, and decides after each judge."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from math import isnan
from time import perf_counter
from typing import Any

from cascade.costs.budget import LimitReached
from cascade.models.protocol import ModelError
from cascade.result import Action, Attempt, CallRecord, Decision, Reason, Stage, is_judged
from cascade.util.log_events import Event, LimitedLog
from cascade.util.totals import plus
from judges import Answer, Judge, Prompt, Verdict
from judges.fusion import fusion_prompt
from judges.prompt import PROMPT_SCORE, features
from judges.protocol import JudgeInput

from .ahead import EarlyAnswer
from .calls import JudgeModelAccess, call_model
from .candidates import candidates
from .confidence import agreement, calibrated, combine
from .decide import decide, decide_before, decide_early, decide_in_time
from .model_handle import ModelHandle
from .other_answers import OtherAnswers
from .plan import CompiledTier
from .run_context import RunContext

BEFORE = -2
"""The stage of a decision before the tier is asked."""
IN_TIME = -3
"""The stage of a decision whether the tier fits the time that is left."""
_UNREAD = -1.0

_warnings = LimitedLog(logging.getLogger("cascade.judges"))


@dataclass(slots=True)
class TierAttempt:
    """One tier's attempt in one run.

    Args:
        context: The run.
        tier: The tier of the policy.
        tiers_left: How many tiers may follow.
        decides: Whether thresholds end the attempt; False runs every judge and compares nothing with a threshold.
        external_answer: Whether the answer to judge came from elsewhere, so that no other answer may replace it.
        early: The tier's answer, where it was asked for before the attempt began; None: it was not.
    """

    context: RunContext
    tier: CompiledTier
    tiers_left: int = 0
    _: KW_ONLY
    decides: bool = True
    external_answer: bool = False
    early: EarlyAnswer | None = None
    answer: Answer | None = field(init=False, default=None)
    confidence: float = field(init=False, default=0.0)
    vetoed: bool = field(init=False, default=False)
    reason: Reason = field(init=False, default="deadline")  # the reason of an attempt that is cut short
    error: str | None = field(init=False, default=None)
    verdicts: list[Verdict] = field(init=False, default_factory=list)
    _stages: list[Stage] = field(init=False, default_factory=list)
    _decisions: list[Decision] = field(init=False, default_factory=list)
    _compared: dict[str, float | None] | None = field(init=False, default=None)
    _predicted: float | None = field(init=False, default=_UNREAD)
    _evidence: dict[str, float | None] | None = field(init=False, default=None)
    _scored: bool = field(init=False, default=False)
    _access: JudgeModelAccess | None = field(init=False, default=None)
    _handle: ModelHandle = field(init=False)
    _others: OtherAnswers | None = field(init=False, default=None)
    _fused_prompt: Prompt | None = field(init=False, default=None)
    _candidates_s: float = field(init=False, default=0.0)
    _judge_usd: float | None = field(init=False, default=0.0)
    _answer_latency_s: float | None = field(init=False, default=None)
    _started: float = field(init=False)
    _calls_before: int = field(init=False)
    _log_before: int = field(init=False)

    def __post_init__(self) -> None:
        self._handle = self.tier.handle
        self._started = perf_counter()
        self._calls_before, self._log_before = self.context.budget.calls, len(self.context.budget.log)

    async def run(self) -> None:
        """Calls the tier's model, or where it fails the tier's fallbacks in turn, and judges the first answer."""
        context = self.context
        events = context.events
        if events is not None:
            events.tier_started(self.tier, not self.tiers_left, has_tools=bool(context.prompt.tools))
        send = None if events is None else events.send
        prompt = context.prompt if self._fused_prompt is None else self._fused_prompt
        faults: list[str] = []
        handles = (self.tier.handle, *self.tier.fallbacks)
        for i, handle in enumerate(handles, 1):
            self._handle = handle
            try:
                if i == 1 and self.early is not None:
                    answers = await self.early.answers()
                else:
                    answers = await call_model(
                        context,
                        handle,
                        prompt,
                        context.request,
                        send=send,
                        alternatives=len(handles) - i + self.tiers_left,
                    )
            except LimitReached as limit:
                # What other models failed with stays in the text: the limit alone would hide it.
                self.reason, self.error = limit.reason, "; ".join([*faults, f"stopped before the call: {limit}"])
                return
            except ModelError as error:
                faults.append(str(error))
                continue
            await self.judge(answers[0])
            return
        self.reason, self.error = "provider_failure", "; ".join(faults)

    async def run_with_others(self) -> None:
        """``run``, with other models asked at the same time, for judges that compare their answers.

        Candidates that the tier's model reads are asked for before it.
        """
        fusion = self.tier.fusion
        self._others = OtherAnswers(self.context, self.tiers_left, call_model)
        for judge, models in self.tier.other_models:
            self._others.start(models, judge)
        try:
            if fusion is not None:
                try:
                    answers, self._candidates_s = await candidates(self.context, fusion, self.tiers_left)
                except LimitReached as limit:
                    self.reason, self.error = limit.reason, f"stopped before the candidates: {limit}"
                    return
                self._fused_prompt = fusion_prompt(self.context.prompt, answers)
            await self.run()
        finally:
            await self._others.close()

    async def judge(self, answer: Answer) -> None:
        """Runs the tier's judges over ``answer`` until one stage decides."""
        self.answer, self._answer_latency_s = answer, answer.latency_s
        context, tier, stage = self.context, self.tier, -1
        events, observer, options = context.events, context.compiled.observer, context.request.options
        access = self._access = JudgeModelAccess(context, self._handle, self.tiers_left, self._others)
        if self._others is not None:
            access.latency_s += await self._others.wait(answer)
        judges = tier.judges
        if context.prompt.tools or not judges:
            self.confidence, self._scored = self._confidence(stage), True
        if context.prompt.tools:
            options = self._sent_options()
            if tier.tools_judge is not None and not await self._check_tools(tier.tools_judge, options):
                return
            if self.vetoed:
                judges = ()
        action = Action.JUDGE if judges or not self.decides else self._decide(stage)
        for stage, judge in enumerate(judges):
            access.judge = judge.name
            verdicts_before, failed = len(self.verdicts), False
            try:
                verdict = self._recorded_verdict(judge.name)
                if verdict is None:
                    case = JudgeInput(prompt=context.prompt, answer=self.answer, ask=access, options=options)
                    outcome = judge.judge(case)
                    verdict = outcome if isinstance(outcome, Verdict) else await outcome
            except LimitReached as limit:
                self.reason, self.error = limit.reason, f"stopped in judge {judge.name!r}: {limit}"
                return
            except Exception as error:
                failed = True
                if observer is not None:
                    observer.verdict(tier.name, judge, error)
                if not self._continues_after(judge.name, error):
                    return
                verdict = Verdict(judge.name, reason=f"judge failed: {_brief(error)}", failed=True)
            if not await self._add(verdict, judge, stage):
                return
            if events is not None:
                events.judged(self.verdicts)
            if observer is not None and not failed:
                for new_verdict in self.verdicts[verdicts_before:]:
                    observer.verdict(tier.name, judge, new_verdict)
            self.confidence, self._scored = self._confidence(stage), True
            if self.decides:
                action = self._decide(stage)
                if action is not Action.JUDGE:
                    break
            else:
                record = self.record()
                self._stages.append(
                    Stage(
                        judge=judge.name,
                        vetoed=self.vetoed,
                        cost_usd=record.cost_usd,
                        latency_s=record.latency_s,
                        answer=self.answer,
                    )
                )
                if self.vetoed:
                    break
        if action is Action.ACCEPT:
            if is_judged(self.verdicts, self._compared):
                self.reason = "accepted"
            else:
                self.reason = "unjudged" if self.tiers_left or self.external_answer else "last_tier"
        else:
            self.reason = "vetoed" if self.vetoed else "unsure"

    def _sent_options(self) -> Mapping[str, Any]:
        """The provider's parameters that the model was called with, as far as the policy and the request set them."""
        spec, options = self._handle.pricer.spec, self.context.request.options
        return {**spec.options, **options} if spec is not None and spec.options else options

    async def _check_tools(self, judge: Judge, options: Mapping[str, Any]) -> bool:
        """Checks the tool calls before the tier's own judges; False where the attempt ends because that failed."""
        context, answer = self.context, self.answer
        assert answer is not None
        observer = context.compiled.observer
        try:
            outcome = judge.judge(JudgeInput(prompt=context.prompt, answer=answer, options=options))
            verdict = outcome if isinstance(outcome, Verdict) else await outcome
        except Exception as error:
            if observer is not None:
                observer.verdict(self.tier.name, judge, error)
            return self._continues_after(judge.name, error)
        self.verdicts.append(verdict)
        self.vetoed = verdict.veto
        if context.events is not None:
            context.events.judged(self.verdicts)
        if observer is not None:
            observer.verdict(self.tier.name, judge, verdict)
        return True

    def _confidence(self, stage: int) -> float:
        """The confidence after judge number ``stage`` (-1: before the first), calibrated where the tier is."""
        tier = self.tier
        if not tier.calibrators:
            return combine(self.verdicts, tier.prior)
        assert self.answer is not None
        if not tier.reads_more:
            return calibrated(tier.calibrators[stage + 1], self.verdicts)
        compared = self._compared
        if tier.reads_agreement:
            earlier = [attempt.answer for attempt in self.context.attempts]
            compared = self._compared = agreement(self.answer, [None] * tier.skipped + earlier)
            if tier.reads_prompt:
                compared[PROMPT_SCORE] = self._prompt_score()
        else:
            compared = self._compared = self._prompt_evidence()
        return calibrated(tier.calibrators[stage + 1], self.verdicts, compared.copy())

    def _prompt_evidence(self) -> dict[str, float | None]:
        """The prompt's score by its name; judging does not change it."""
        if self._evidence is None:
            self._evidence = {PROMPT_SCORE: self._prompt_score()}
        return self._evidence

    def _prompt_score(self) -> float | None:
        """P(the tier is right) by the prompt alone; None where the prompt is unlike those that were recorded."""
        if self._predicted == _UNREAD:
            context, predictor = self.context, self.tier.predictor
            assert predictor is not None
            if context.features is None:
                context.features = features(context.prompt, context.compiled.caller_task)
            self._predicted = predictor.probability(context.features)
        return self._predicted

    def asks_next(self) -> bool:
        """Whether the next tier is to be asked at the same time, since this one is unlikely to be right."""
        tier = self.tier
        score = self._prompt_score() if tier.predictor is not None and tier.speculate_below is not None else None
        return decide_early(tier.speculate_below, score)

    def is_too_slow(self, left_s: float, p95_s: float | None, *, needed: bool) -> bool:
        """Whether the tier does not fit the seconds that are left; the attempt then ends without asking it."""
        action = decide_in_time(p95_s, left_s, needed=needed)
        compared = {"p95_s": p95_s, "left_s": left_s, "needed": float(needed)}
        self._decisions.append(Decision(IN_TIME, 0.0, False, action, compared))
        if action is Action.ASK:
            return False
        self.reason, self._answer_latency_s = "too_slow", 0.0
        return True

    def add_calls(self, calls: Sequence[CallRecord]) -> None:
        """Adds the requests to a tier that was asked early and turned out not to be needed."""
        self.context.budget.log[self._log_before : self._log_before] = calls

    def overlapped(self, lead_s: float) -> None:
        """Counts an answer's latency from the attempt's start, where it was requested ``lead_s`` seconds before that."""
        latency_s = self._answer_latency_s
        if latency_s is not None and not isnan(latency_s):
            self._answer_latency_s = max(0.0, latency_s - lead_s)

    def is_skipped(self) -> bool:
        """Whether the tier is not asked, since by the prompt alone it is too unlikely to be right; the attempt then ends."""
        score = self._prompt_score()
        action, score = decide_before(self.tier.thresholds, score), score or 0.0
        self._decisions.append(Decision(BEFORE, score, False, action, self._prompt_evidence()))
        if action is Action.ASK:
            return False
        self.reason, self.confidence, self._answer_latency_s = "skipped", score, 0.0
        return True

    def _decide(self, stage: int) -> Action:
        action = decide(self.tier.thresholds, stage, self.confidence, vetoed=self.vetoed, last_tier=not self.tiers_left)
        self._decisions.append(Decision(stage, self.confidence, self.vetoed, action, self._compared))
        return action

    def _recorded_verdict(self, judge_name: str) -> Verdict | None:
        """The verdict that was recorded with the answer, if there is one."""
        assert self.answer is not None
        if judge_name not in self.answer.verdicts:
            return None
        score = self.answer.verdicts[judge_name]
        usd = self.answer.extra.get("verdict_cost_usd") or {}
        self._pay_recorded(usd.get(judge_name, 0.0))
        return Verdict(judge_name, score, reason="" if score is not None else "no score when it was recorded")

    def _pay_recorded(self, usd: float | None) -> None:
        """Counts the cost of a verdict that was recorded with the answer."""
        self.context.budget.add_cost(usd)
        self.context.budget.charged += usd or 0.0
        self._judge_usd = plus(self._judge_usd, usd)

    def _continues_after(self, judge_name: str, error: Exception) -> bool:
        """Whether the attempt goes on after a judge failed; the policy may say raise, escalate or ignore instead.

        A judge's failure is never a low score.
        """
        rule = self.context.compiled.policy.on_judge_error
        event = Event("a judge failed", judge=judge_name, tier=self.tier.name, error=type(error).__name__, rule=rule)
        _warnings.warning((judge_name, type(error)), event)
        if rule == "raise":
            raise error
        if rule == "escalate":
            self.reason, self.error = "judge_failure", f"judge {judge_name!r} failed: {_brief(error)}"
        return rule == "ignore"

    async def _add(self, verdict: Verdict, judge: Judge, stage: int) -> bool:
        """Adds a verdict; False where the attempt ends because a judge failed that had to be run again."""
        self.verdicts.append(verdict)
        self.vetoed = self.vetoed or verdict.veto
        if verdict.answer is None:
            return True
        if self.external_answer and not judge.only_vetoes:
            # The caller's own answer is judged: that the model's samples agree on another one counts against it.
            self.verdicts[-1] = Verdict(
                verdict.judge, veto=True, reason="the samples agree on another answer", details=verdict.details
            )
            self.vetoed = True
            return True
        self.answer = verdict.answer
        if judge.only_vetoes or verdict.veto:
            return True
        # The new answer replaces one that earlier judges did not veto: they must check the new one too.
        tools_judge = self.tier.tools_judge if self.context.prompt.tools else None
        if tools_judge is not None and not await self._veto_again(tools_judge):
            return False
        for earlier in self.tier.judges[:stage]:
            if earlier.only_vetoes and not await self._veto_again(earlier):
                return False
        return True

    async def _veto_again(self, judge: Judge) -> bool:
        assert self.answer is not None
        try:
            case = JudgeInput(prompt=self.context.prompt, answer=self.answer, options=self._sent_options())
            pending = judge.judge(case)
            verdict = pending if isinstance(pending, Verdict) else await pending
        except Exception as error:
            observer = self.context.compiled.observer
            if observer is not None:
                observer.verdict(self.tier.name, judge, error)
            return self._continues_after(judge.name, error)
        if verdict.answer is not None:
            self.answer = verdict.answer
        if verdict.veto:
            self.vetoed = True
            self.verdicts.append(verdict)
        return True

    def record(self) -> Attempt:
        """Returns the attempt so far."""
        if self.answer is not None and not self._scored:  # cut short before the first judge's verdict
            self.confidence = self._confidence(-1)
        budget = self.context.budget
        log = budget.log[self._log_before :]
        calls = budget.calls - self._calls_before
        if self.context.asks_ahead:  # then another tier's request may be in progress, which ``budget.calls`` counts
            log = [*(self.early.log if self.early is not None else ()), *log]
            calls = sum(call.n for call in log)
        judge_usd = usd = self._judge_usd
        for call in log:
            usd = plus(usd, call.cost_usd)
            if call.purpose != "answer":
                judge_usd = plus(judge_usd, call.cost_usd)
        judging_s = self._access.latency_s if self._access is not None else 0.0
        answer_s = self._answer_latency_s
        if self._candidates_s and answer_s is not None:
            answer_s += self._candidates_s
        return Attempt(
            tier=self.tier.name,
            model=self.answer.model if self.answer is not None and self.answer.model else self._handle.model.name,
            answer=self.answer,
            verdicts=tuple(self.verdicts),
            confidence=self.confidence,
            vetoed=self.vetoed,
            cost_usd=usd,
            judge_cost_usd=judge_usd,
            latency_s=perf_counter() - self._started if answer_s is None else answer_s + judging_s,
            calls=calls,
            reason=self.reason,
            error=self.error,
            # The calibrators were fitted for the tier's own model; for a fallback they are the best guess there is.
            calibrated=bool(self.tier.calibrators) and self._handle is self.tier.handle,
            stages=tuple(self._stages),
            decisions=tuple(self._decisions),
            call_log=tuple(log),
            task=self.tier.task,
            route=self.tier.route,
            min_confidence=self.tier.min_confidence,
            session=self.tier.session,
        )


def _brief(error: BaseException) -> str:
    """The class of a judge's error, and its message only where it is our own: others may quote the prompt."""
    return str(error)[:200] if isinstance(error, ModelError) else type(error).__name__
