"""What a run returns: Result, and one Attempt for every tier that was asked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from time import time_ns
from typing import TYPE_CHECKING, Any, Generic, Literal

from judges import Answer, Usage, Verdict

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    ParsedT = TypeVar("ParsedT", default=Any)
else:
    from typing import TypeVar

    ParsedT = TypeVar("ParsedT")  # typing's has no default before 3.13, and nothing reads the default at run time

Reason = Literal[
    "accepted",  # the confidence reached its threshold
    "unsure",  # it did not, and no tier is left
    "vetoed",  # a judge forbade the answer, and no tier is left
    "provider_failure",  # the model failed (an attempt), or the last tiers did (a result)
    "judge_failure",  # a judge failed and the policy says escalate
    "budget",  # the next call could have passed the budget
    "max_calls",  # the policy's cap on calls was reached
    "max_samples",  # the policy's cap on further samples was reached
    "deadline",  # time ran out
]


class Action(Enum):
    """What to do with the answer at hand."""

    ACCEPT = "accept"
    JUDGE = "judge"
    ESCALATE = "escalate"
    STOP = "stop"


def new_run_id() -> str:
    """A UUID of version 7 as 32 hex digits: ids sort by the time at which their runs began, to the millisecond."""
    drawn = int.from_bytes(os.urandom(10))
    high, low = drawn >> 68, drawn & (1 << 62) - 1
    return f"{time_ns() // 1_000_000 << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One request to a provider: who was asked, for what, and how it went.

    ``purpose`` is "answer" or the name of the judge that asked. ``started_s`` is seconds since the run began, ``latency_s``
    how long the request took. ``n`` answers were asked for; ``usage`` and ``cost_usd`` are those of all answers together,
    None where unknown. ``fault`` says why there is no answer (None: there is one), ``status`` the HTTP status if any.
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


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``decide`` said after judge number ``stage`` (0-based; -1: the tier has no judges), and on what grounds.

    ``compared`` is the agreement with earlier tiers' answers that the confidence rests on; None where it reads none.
    """

    stage: int
    confidence: float
    vetoed: bool
    action: Action
    compared: Mapping[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """How an attempt stood after one judge; recorded where nothing was decided (``Cascade.attempt``).

    ``cost_usd`` (None: unknown) and ``latency_s`` count the answer and all judging so far; ``answer`` is the one that stood.
    """

    judge: str
    vetoed: bool
    cost_usd: float | None
    latency_s: float
    answer: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One tier's part of a run: its answer (None where the provider failed), what the judges said, what it cost.

    ``cost_usd`` counts the answer and all its judging with every failed request; None is "unknown", never 0: a request that
    was lost on its way back may have been billed.
    ``latency_s`` is the time of the answer and its judging in seconds (the recorded one when a recording is replayed).
    ``decisions`` and ``call_log`` tell, in order, what was decided and which requests were made.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Generic[ParsedT]):
    """A judged answer. Production gates on ``accepted`` and ``confidence``.

    ``confidence`` is an estimate of P(the answer is right) in [0, 1]; ``calibrated`` says whether it was fitted on graded
    data (False: the documented combination of verdicts, good for ranking, not a probability). ``accepted`` is True only
    where the policy's threshold was met and nothing vetoed. ``cost_usd`` is the whole run, judging included; None where
    any part has no known price. ``answer`` is None, and ``text`` empty, where the policy abstained.
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

    @property
    def tool_calls(self) -> tuple[Any, ...]:
        """The answer's tool calls in OpenAI's shape."""
        return self.answer.tool_calls if self.answer is not None else ()

    @property
    def abstained(self) -> bool:
        """True where the policy says ``when_unsure: abstain`` and no answer was good enough."""
        return self.answer is None
