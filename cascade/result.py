"""What a run returns: Result, and one Attempt for every tier that was called."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import time_ns
from typing import TYPE_CHECKING, Any, Generic, Literal

from cascade.util.plain_data import plain, shortened, usd
from judges import Answer, Usage, Verdict
from judges.prompt import PROMPT_SCORE
from judges.quick_init import quick_init

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    ParsedT = TypeVar("ParsedT", default=Any)
else:
    from typing import TypeVar

    ParsedT = TypeVar("ParsedT")  # typing's has no default before 3.13, and nothing reads the default at run time

Reason = Literal[
    "accepted",  # the confidence of a judged answer reached its threshold
    "last_tier",  # the last tier's threshold takes any answer, and no judge could score this one
    "unjudged",  # an earlier tier's threshold does, or that of a gate
    "unsure",  # it did not, and no tier is left
    "vetoed",  # a judge forbade the answer, and no tier is left
    "provider_failure",  # the model failed (an attempt), or the last tiers did (a result)
    "judge_failure",  # a judge failed and the policy says escalate
    "budget",  # the next call could have passed the budget
    "max_calls",  # the policy's cap on calls was reached
    "max_samples",  # the policy's cap on further samples was reached
    "deadline",  # time ran out
    "skipped",  # by the prompt alone the tier was too unlikely to be right; it was not asked (an attempt)
    "too_slow",  # its 95th percentile did not fit what was left of max_latency_s; it was not asked (an attempt)
]


ANSWERED: frozenset[Reason] = frozenset(("accepted", "last_tier", "unjudged"))
"""The reasons of attempts and runs that end because an answer reached its threshold, judged or not."""

NOT_ASKED: frozenset[Reason] = frozenset(("skipped", "too_slow"))
"""The reasons of attempts whose tier was not asked."""


Arm = Literal["present", "candidate"]
"""Which calibration a run of a policy with a canary had."""


class Action(StrEnum):
    """The decision about the current answer, or before a tier is asked whether to ask it."""

    ACCEPT = "accept"
    JUDGE = "judge"
    ESCALATE = "escalate"
    STOP = "stop"
    ASK = "ask"
    SKIP = "skip"


FaultKind = Literal[
    "timeout",  # no answer in time
    "connection",  # no connection, or it was lost
    "malformed",  # the response broke the protocol
    "cancelled",  # the caller gave up
    "other",  # anything else, such as an HTTP status or an error in the model's own code
]
"""Why a request to a model failed."""


def new_run_id() -> str:
    """A UUID of version 7 as 32 hex digits: ids sort by the time at which their runs began, to the millisecond."""
    random_bits = int.from_bytes(os.urandom(10))
    high, low = random_bits >> 68, random_bits & (1 << 62) - 1
    return f"{time_ns() // 1_000_000 << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


@quick_init
@dataclass(frozen=True, slots=True)
class CallRecord:
    """One request to a provider.

    Attributes:
        model: The model's name in the policy.
        purpose: "answer", or the name of the judge that made the request.
        started_s: Seconds since the run began.
        latency_s: How long the request took, in seconds.
        n: How many answers were requested.
        usage: Tokens of all answers together; None where unknown.
        cost_usd: Cost of all answers together; None where unknown.
        fault: Why there is no answer; None where there is one.
        status: The HTTP status of a fault, if any.
        fault_kind: The fault as one word.
        estimated: Whether ``cost_usd`` is an estimate: the request was cancelled, and would have cost this in full.
    """

    model: str
    purpose: str
    started_s: float
    latency_s: float
    n: int = 1
    usage: Usage | None = None
    cost_usd: float | None = None
    fault: str | None = None
    status: int | None = None
    fault_kind: FaultKind | None = None
    estimated: bool = False


@quick_init
@dataclass(frozen=True, slots=True)
class Decision:
    """The decision after one judge, and its reason.

    Attributes:
        stage: The judge's position, from 0; -1 where the tier has no judges; -2 before the tier is asked, where the
            confidence is what the prompt says of it; -3 where the time that is left is compared with the tier's latency.
        confidence: The estimate of P(the answer is right) in [0, 1] after that judge.
        vetoed: Whether a judge so far forbade the answer.
        action: Accept, escalate, stop, or run the next judge; before the tier is asked: ask or skip.
        compared: What the confidence is based on beside the verdicts: agreement with earlier tiers' answers, and the
            probability by the prompt; at stage -3 ``p95_s``, ``left_s`` and ``needed``; None where it reads none.
    """

    stage: int
    confidence: float
    vetoed: bool
    action: Action
    compared: Mapping[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """An attempt's state after one judge; recorded by ``Cascade.attempt``, which decides nothing.

    Attributes:
        judge: The judge's name.
        vetoed: Whether a judge so far forbade the answer.
        cost_usd: The answer and all judging so far; None where unknown.
        latency_s: Seconds of the answer and all judging so far.
        answer: The answer after that judge, which may have replaced it.
    """

    judge: str
    vetoed: bool
    cost_usd: float | None
    latency_s: float
    answer: Answer | None


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Attempt:
    """One tier's part of a run: its answer, its verdicts, its cost.

    ``repr`` is one line without any text of the prompt or the answer; ``print`` shows a line for people.

    Attributes:
        tier: The tier's name.
        model: The model that answered, as the provider names it.
        answer: None where the provider failed.
        verdicts: What the judges found, in the policy's order.
        confidence: The estimate of P(the answer is right) in [0, 1].
        vetoed: Whether a judge forbade the answer.
        cost_usd: The answer and all its judging, with every failed request. None is "unknown", never 0: a request whose
            response was lost may have been billed.
        judge_cost_usd: The part of ``cost_usd`` that judging took.
        latency_s: Seconds of the answer and its judging (the recorded ones where a recording is replayed).
        calls: How many answers were requested, samples and judges' calls included.
        reason: How the attempt ended.
        error: Why there is no answer, or which limit ended the judging.
        calibrated: Whether ``confidence`` was fitted on graded data.
        stages: How the attempt stood after each judge; filled by ``Cascade.attempt`` alone.
        decisions: What was decided after each judge.
        call_log: Every request to a provider, in order.
        task: The task whose thresholds were used; None: those of every run.
        route: The place of the rule in the policy's routes that the run followed; None: none.
        min_confidence: The least confidence that the call accepts; None: the policy's thresholds alone decided.
        session: Why a conversation's turn began where it did: "stays", "probes" or "tool_loop"; None: it has no tier yet.
        cluster: A number that is equal for the attempts of a run whose answers say the same; None where the policy does not
            vote, or the answer is empty.
    """

    tier: str
    model: str
    answer: Answer | None
    verdicts: tuple[Verdict, ...]
    confidence: float
    vetoed: bool
    cost_usd: float | None
    judge_cost_usd: float | None
    latency_s: float
    calls: int
    reason: Reason
    error: str | None = None
    calibrated: bool = False
    stages: tuple[Stage, ...] = ()
    decisions: tuple[Decision, ...] = ()
    call_log: tuple[CallRecord, ...] = ()
    task: str | None = None
    route: int | None = None
    min_confidence: float | None = None
    session: str | None = None
    cluster: int | None = None

    @property
    def judged(self) -> bool:
        """Whether a judge scored or vetoed the answer; where none did, ``confidence`` is the tier's base rate or prior."""
        compared = self.decisions[-1].compared if self.decisions else None
        return is_judged(self.verdicts, compared)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data that ``json.dumps`` accepts; the answer's text is not part of it."""
        return {
            "tier": self.tier,
            "model": self.model,
            "reason": self.reason,
            "error": self.error,
            "confidence": plain(self.confidence),
            "judged": self.judged,
            "cost_usd": plain(self.cost_usd),
            "judge_cost_usd": plain(self.judge_cost_usd),
            "latency_s": plain(self.latency_s),
            "calls": self.calls,
            "verdicts": [
                {
                    "judge": v.judge,
                    "score": plain(v.score),
                    "veto": v.veto,
                    "reason": v.reason,
                    "details": plain(v.details),
                }
                for v in self.verdicts
            ],
        }

    def __repr__(self) -> str:
        return (
            f"Attempt(tier={self.tier!r}, model={self.model!r}, reason={self.reason!r}, confidence={self.confidence:.3f}, "
            f"vetoed={self.vetoed}, cost_usd={self.cost_usd!r}, latency_s={self.latency_s:.3f}, calls={self.calls}, "
            f"verdicts={len(self.verdicts)}, answered={self.answer is not None})"
        )

    def __str__(self) -> str:
        scores = ", ".join(f"{v.judge} {_score(v)}" for v in self.verdicts)
        return f"{self.tier}: {self.error or self.reason}; {scores or 'no judges'}"


def is_judged(verdicts: Sequence[Verdict], compared: Mapping[str, float | None] | None = None) -> bool:
    """Whether anything is known of an answer itself.

    Args:
        verdicts: What its judges found.
        compared: Its agreement with the answers of earlier tiers, where the confidence reads it; what the prompt says is not
            about the answer.
    """
    for verdict in verdicts:
        if verdict.score is not None or verdict.veto:
            return True
    return compared is not None and any(v is not None for name, v in compared.items() if name not in _BEFORE_ANSWERS)


_BEFORE_ANSWERS = frozenset((PROMPT_SCORE, "p95_s", "left_s", "needed"))
"""What decisions are based on that is not about an answer."""


def _score(verdict: Verdict) -> str:
    if verdict.veto:
        return f"veto: {verdict.reason}"
    return "-" if verdict.score is None else format(verdict.score, ".3f")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCount:
    """The vote by which an answer was chosen.

    Attributes:
        agree: How many tiers' answers say what is returned.
        answers: How many tiers' answers had a vote.
        clusters: How many different things they say.
    """

    agree: int
    answers: int
    clusters: int

    def to_dict(self) -> dict[str, int]:
        """The counts as plain data."""
        return {"agree": self.agree, "answers": self.answers, "clusters": self.clusters}


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result(Generic[ParsedT]):
    """A judged answer; check ``accepted`` before you use ``text``.

    ``print(result)`` shows a summary, ``repr`` is one line without any text of the prompt or the answer, and ``to_dict()``
    gives plain data. Generic in what ``schema=`` parses: ``run(prompt, schema=City)`` returns a ``Result[City]``.

    Attributes:
        text: The answer's text; empty where the policy abstained.
        parsed: What ``schema=`` made of the text: an instance of the pydantic class, or the JSON value. None where the run
            had no schema, the tier no schema judge, or the text is not valid.
        confidence: An estimate of P(the answer is right) in [0, 1].
        accepted: True only where a judge scored the answer, the policy's threshold was met and no judge vetoed.
        tier: The tier that gave the answer.
        model: The model that answered, as the provider names it.
        cost_usd: The whole run, judging included; None where the price of any part is unknown.
        latency_s: Seconds, over all attempts.
        attempts: One for each tier that was asked or skipped, in order.
        reason: Why the run ended.
        run_id: The run's id in the journal, for ``feedback``.
        answer: The whole answer, with usage and log-probabilities; None where the policy abstained.
        calibrated: Whether ``confidence`` was fitted on graded data. Where it was not, it ranks answers but is no
            probability.
        judged: Whether a judge scored or vetoed the answer. Where none did, ``confidence`` is the tier's calibrated base
            rate or its ``prior``, and the answer is not accepted.
        canary: Which calibration the run had where its policy has a canary: "present" or "candidate".
        vote: The vote of all tiers' answers, of which ``confidence`` is then the posterior; None where none was taken.
    """

    text: str
    parsed: ParsedT | None
    confidence: float
    accepted: bool
    tier: str
    model: str
    cost_usd: float | None
    latency_s: float
    attempts: tuple[Attempt, ...]
    reason: Reason
    run_id: str
    answer: Answer | None = None
    calibrated: bool = False
    judged: bool = True
    canary: Arm | None = None
    vote: VoteCount | None = None

    @property
    def reason_in_words(self) -> str:
        """The reason for people: "no judge scored it" where that is why the answer is not accepted."""
        return f"{self.reason}: no judge scored it" if self.reason in ("last_tier", "unjudged") else self.reason

    @property
    def tool_calls(self) -> tuple[Any, ...]:
        """The answer's tool calls in OpenAI's shape."""
        return self.answer.tool_calls if self.answer is not None else ()

    @property
    def reasoning(self) -> str | None:
        """The model's reasoning before its answer; None where there is none."""
        return (self.answer.reasoning if self.answer is not None else None) or None

    @property
    def abstained(self) -> bool:
        """True where the policy says ``when_unsure: abstain`` and no answer was good enough."""
        return self.answer is None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, as ``cascade run --json`` prints it.

        Returns:
            A dict that ``json.dumps`` accepts, whatever ``schema=`` parsed. It holds the answer's text, not the prompt's;
            ``reasoning`` only where the answer has some.

        Example:
            ```python
            json.dumps(cascade.run("What is 17 * 3?").to_dict())
            ```
        """
        return {
            "text": self.text,
            "parsed": plain(self.parsed),
            "tool_calls": plain(self.tool_calls),
            **({"reasoning": self.reasoning} if self.reasoning else {}),
            "confidence": plain(self.confidence),
            "calibrated": self.calibrated,
            "accepted": self.accepted,
            "judged": self.judged,
            "reason": self.reason,
            "tier": self.tier,
            "model": self.model,
            "cost_usd": plain(self.cost_usd),
            "latency_s": plain(self.latency_s),
            "run_id": self.run_id,
            **({"canary": self.canary} if self.canary is not None else {}),
            **({"vote": self.vote.to_dict()} if self.vote is not None else {}),
            "attempts": [attempt.to_dict() for attempt in self.attempts],
        }

    def __repr__(self) -> str:
        return (
            f"Result(accepted={self.accepted}, confidence={self.confidence:.3f}, calibrated={self.calibrated}, "
            f"reason={self.reason!r}, tier={self.tier!r}, model={self.model!r}, cost_usd={self.cost_usd!r}, "
            f"latency_s={self.latency_s:.3f}, attempts={len(self.attempts)}, run_id={self.run_id!r}, "
            f"text=<{len(self.text):,} characters>)"
        )

    def __str__(self) -> str:
        verdict = "accepted" if self.accepted else f"NOT accepted ({self.reason_in_words})"
        kind = "calibrated" if self.calibrated else "uncalibrated"
        rows = [
            ("text", "none: the policy abstained" if self.abstained else shortened(self.text, _MOST_PRINTED)),
            ("tier", f"{self.tier} ({self.model})"),
            ("cost", usd(self.cost_usd)),
            ("latency", f"{self.latency_s:.2f} s"),
            ("attempts", "\n".join(map(str, self.attempts))),
            ("run_id", self.run_id),
        ]
        lines = [f"{verdict}, confidence {self.confidence:.3f} ({kind})"]
        for name, text in rows:
            first, *others = text.splitlines() or [""]
            lines += [f"  {name:<9} {first}".rstrip(), *(f"  {'':<9} {other}".rstrip() for other in others)]
        return "\n".join(lines)


_MOST_PRINTED = 2000  # characters of the answer that print(result) shows
