"""Conversations: a turn begins at the tier that the one before needed, where the provider's prompt cache is warm."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Literal

from cascade.engine.plan import CompiledPolicy, CompiledTier
from cascade.policy.sticky import StickySpec
from cascade.result import NOT_ASKED, Result
from cascade.util.after_fork import restart_after_fork
from judges import Prompt

from .costs import TurnCosts, trial_gain, turn_costs

Start = Literal["stays", "probes", "tool_loop"]
"""Why a turn begins at its tier: it stays, it tries a cheaper one, or it continues a turn whose tools were called."""

Trial = Literal["new", "again", "retry", "later"]
"""Why a turn begins at a tier that may not do: the conversation is new, or the tier's answer was accepted in the last turn,
or rejected in it, or the conversation has been at the dearer tier for some turns."""

_FORGETS = 0.99  # what a trial of the past weighs, for each that came after it
_PRIOR = 3.0  # how many trials of a kind count as much as what is expected of it beforehand
_ANSWER_TOKENS = 200.0  # of an answer, before any is seen
_DOUBTS = 10.0  # new conversations that are taken to have failed, in what is expected right after an escalation
_EXPECTED = 0.75  # that a new conversation's answer is accepted, before any is seen
EXPLORES = 0.005
"""The share of the bill that trials may lose which are not expected to pay: they show whether the traffic has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """What is remembered of a conversation.

    Attributes:
        tier: The tier that answered its last turn.
        turns: Turns since it came to that tier or tried a cheaper one.
        at: When its last turn ended, by the monotonic clock in seconds.
        read_below: Whether a cheaper tier read the last turn as well, so that its prompt cache is warm, too.
    """

    tier: str
    turns: int
    at: float
    read_below: bool = False


@dataclass(slots=True, eq=False, weakref_slot=True)
class SessionMemory:
    """The conversations of one policy, at most ``spec.max_sessions``: the ones that were idle longest are forgotten.

    Args:
        spec: The policy's settings.
        clock: The monotonic clock in seconds.

    By tier and kind of trial it counts how often the tier's answer was accepted; what is past weighs less and less.
    """

    spec: StickySpec
    clock: Callable[[], float] = monotonic
    _states: OrderedDict[str, SessionState] = field(default_factory=OrderedDict)
    _trials: dict[tuple[str, Trial], tuple[float, float]] = field(default_factory=dict)
    _may_lose_usd: float = 0.0
    _answer_tokens: float = _ANSWER_TOKENS
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        restart_after_fork(self)

    def restart(self) -> None:
        """See ``Restartable``."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def begin(self, compiled: CompiledPolicy, session: str, prompt: Prompt) -> tuple[CompiledPolicy, "Turn"]:
        """The policy for the next turn of a conversation, and the turn, which is to be ended with the result."""
        with self._lock:
            state = self._states.get(session)
            tiers = compiled.tiers
            is_tool_loop = bool(prompt.messages) and prompt.messages[-1].get("role") == "tool"
            turn = Turn(memory=self, session=session, is_tool_loop=is_tool_loop, before=state)
            place = 0
            start: Start = "stays"
            if state is not None:
                place = next((i for i, tier in enumerate(tiers) if tier.name == state.tier), 0)
            if is_tool_loop and state is not None:
                start = "tool_loop"
            else:
                place, trial = self._place(state, place, prompt, tiers)
                if trial is not None:
                    turn = replace(turn, tried=tiers[place].name, trial=trial)
                    start = "probes" if trial in ("retry", "later") else "stays"
        return (replace(compiled, tiers=_from(tiers, place, start)) if place else compiled), turn

    def _place(
        self, state: SessionState | None, place: int, prompt: Prompt, tiers: Sequence[CompiledTier]
    ) -> tuple[int, Trial | None]:
        """Where a turn begins that continues no other, and which trial that is; None: none, it stays at a dearer tier."""
        last = len(tiers) - 1
        if state is None:
            for place in range(last):
                costs = self._costs(prompt, tiers, place, is_warm=False)
                if self._tries(tiers[place], "new", costs, is_read=False):
                    return place, "new"
            return last, None
        is_warm = self.clock() - state.at <= self.spec.warm_s
        if place > 0:
            costs = self._costs(prompt, tiers, place - 1, is_warm=is_warm)
            cheaper, trial = tiers[place - 1], self._due(state, costs, is_warm=is_warm)
            if trial is not None and self._tries(cheaper, trial, costs, is_read=trial == "retry"):
                return place - 1, trial
        if place == last:
            return place, None
        costs = self._costs(prompt, tiers, place, is_warm=is_warm)
        if self._tries(tiers[place], "again", costs, is_read=is_warm):
            return place, "again"
        return place + 1, None

    def _costs(self, prompt: Prompt, tiers: Sequence[CompiledTier], cheaper: int, *, is_warm: bool) -> TurnCosts | None:
        """What the turn costs at a tier and at the one after it; ``is_warm``: whether that one has read the conversation."""
        dearer = tiers[cheaper + 1]
        return turn_costs(prompt, dearer, tiers[cheaper], is_warm=is_warm, answer_tokens=self._answer_tokens)

    def _due(self, state: SessionState, costs: TurnCosts | None, *, is_warm: bool) -> Trial | None:
        """Which trial of the tier below is due; None: none."""
        if not is_warm or state.turns >= self.spec.probe_every:
            return "later"
        return "retry" if state.read_below and costs is not None else None

    def _tries(self, tier: CompiledTier, trial: Trial, costs: TurnCosts | None, *, is_read: bool) -> bool:
        """Whether to make a trial: where it is expected to save money, or its price is unknown, or it is time to learn."""
        if costs is None:
            return True
        gain = trial_gain(
            costs,
            is_read=is_read,
            success=self._success(tier, trial),
            again=self._success(tier, "again"),
            turns=self.spec.probe_every,
        )
        if gain > 0.0:
            return True
        self._may_lose_usd += EXPLORES * costs.stay.usd
        if self._may_lose_usd + gain < 0.0:
            return False
        self._may_lose_usd += gain
        return True

    def _success(self, tier: CompiledTier, trial: Trial) -> float:
        """The probability that a tier's answer is accepted in a trial of a kind."""
        tried, accepted = self._trials.get((tier.name, trial), (0.0, 0.0))
        if trial == "new":
            prior = _EXPECTED
        elif trial == "retry":  # none is expected to succeed before answers to new conversations show that many would
            n, k = self._trials.get((tier.name, "new"), (0.0, 0.0))
            prior = k / (n + _DOUBTS)
        else:
            prior = self._success(tier, "new")
            if trial == "again":  # an accepted answer speaks for the next one
                prior = (1.0 + prior) / 2.0
        return (accepted + _PRIOR * prior) / (tried + _PRIOR)

    def end(self, turn: "Turn", result: Result) -> None:
        """Remembers which tier a turn needed; a provider's failure says nothing about the conversation."""
        if any(attempt.reason == "provider_failure" for attempt in result.attempts):
            return
        answering = [attempt for attempt in result.attempts if attempt.reason not in NOT_ASKED]
        # An answer that no tier accepted needed the last one that was asked.
        tier = result.tier if result.accepted or not answering else answering[-1].tier
        before = turn.before
        turns = 1
        if before is not None and before.tier == tier and turn.trial not in ("retry", "later"):
            turns = before.turns + (not turn.is_tool_loop)
        with self._lock:
            if turn.tried is not None and turn.trial is not None:
                kind = (turn.tried, turn.trial)
                tried, accepted = self._trials.get(kind, (0.0, 0.0))
                self._trials[kind] = _FORGETS * tried + 1.0, _FORGETS * accepted + (turn.tried == tier)
            usage = None if result.answer is None else result.answer.usage
            if usage is not None:
                self._answer_tokens += (1.0 - _FORGETS) * (usage.output_tokens - self._answer_tokens)
            read_below = bool(answering) and answering[0].tier != tier
            self._states[turn.session] = SessionState(tier=tier, turns=turns, at=self.clock(), read_below=read_below)
            self._states.move_to_end(turn.session)
            while len(self._states) > self.spec.max_sessions:
                self._states.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run of a conversation.

    Attributes:
        memory: Where the conversation is remembered.
        session: Its name.
        is_tool_loop: Whether it continues a turn whose tools were called.
        before: What was remembered when it began.
        tried: The tier at which it begins although that may not do; None: it stays at a dearer one, or has no choice.
        trial: Why it begins there.
    """

    memory: SessionMemory
    session: str
    is_tool_loop: bool
    before: SessionState | None
    tried: str | None = None
    trial: Trial | None = None

    def end(self, result: Result) -> None:
        """Remembers what the turn needed."""
        self.memory.end(self, result)


def _from(tiers: Sequence[CompiledTier], place: int, start: Start) -> tuple[CompiledTier, ...]:
    return tuple(replace(tier, session=start, skipped=tier.skipped + place) for tier in tiers[place:])


def first_turns(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What names a conversation that has no name: everything up to its first message from the user."""
    turns: list[Any] = []
    for message in messages:
        turns.append([message.get("role"), message.get("content")])
        if message.get("role") == "user":
            break
    return turns
