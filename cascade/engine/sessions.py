"""Conversations: a turn begins at the tier that the one before needed, where the provider's prompt cache is warm."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Literal

from cascade.policy.sticky import StickySpec
from cascade.result import NOT_ASKED, Result
from cascade.util.after_fork import restart_after_fork
from judges import Prompt, Usage

from .plan import CompiledPolicy, CompiledTier

Start = Literal["stays", "probes", "tool_loop"]
"""Why a turn begins at its tier: it stays, it tries a cheaper one, or it continues a turn whose tools were called."""

Trial = Literal["new", "retry", "later"]
"""Why a tier is tried: the conversation is new, its last turn was the first that escalated, or it stayed for some turns."""

_FORGETS = 0.99  # what a probe of the past weighs, for each that came after it
_EXPLORES = 50  # conversations that begin higher, of which one begins at the first tier all the same
_CHARACTERS = 4  # of a token, about


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCosts:
    """What a turn costs at a tier and at the cheaper one before it, in USD.

    Attributes:
        stay: At the tier, whose prompt cache is warm.
        cold: At the cheaper tier, which has to read the whole conversation.
        warm: At the cheaper tier once it has.
    """

    stay: float
    cold: float
    warm: float


def probe_pays(costs: TurnCosts | None, success: float, turns: int) -> bool:
    """Whether trying the cheaper tier is expected to save money.

    Args:
        costs: What a turn costs; None: unknown, and then the policy's schedule alone decides.
        success: The probability that the cheaper tier's answer is accepted.
        turns: For how many turns the conversation is expected to stay there.
    """
    if costs is None:
        return True
    return success * (costs.stay + (turns - 1) * (costs.stay - costs.warm)) > costs.cold


def turn_costs(prompt: Prompt, tier: CompiledTier, cheaper: CompiledTier, *, is_warm: bool) -> TurnCosts | None:
    """What the next turn costs at two tiers, by the lengths of the conversation; None where a price is unknown."""
    lengths = [len(str(message.get("content") or "")) // _CHARACTERS for message in prompt.messages]
    read, new = sum(lengths) + 1, lengths[-1] + 1 if lengths else 1
    answers = [n for n, m in zip(lengths, prompt.messages, strict=True) if m.get("role") == "assistant"]
    written = answers[-1] if answers else new
    repeated, cached = read - new, (read - new) if is_warm else 0
    price, cheap = tier.handle.pricer.cost, cheaper.handle.pricer.cost
    stay = price(Usage(read, written, cached_tokens=cached, cache_write_tokens=read - cached))
    cold = cheap(Usage(read, written, cache_write_tokens=read))
    warm = cheap(Usage(read, written, cached_tokens=repeated, cache_write_tokens=new))
    if stay is None or cold is None or warm is None:
        return None
    return TurnCosts(stay=stay, cold=cold, warm=warm)


def retry_pays(costs: TurnCosts | None, success: float) -> bool:
    """Whether to begin the turn after an escalation at the cheaper tier, which has read the conversation.

    Args:
        costs: What the turn costs; None: unknown.
        success: The probability that the cheaper tier's answer is accepted then.
    """
    return costs is not None and success * costs.stay > costs.warm


@dataclass(slots=True, eq=False, weakref_slot=True)
class SessionMemory:
    """The conversations of one policy, at most ``spec.max_sessions``: the ones that were idle longest are forgotten.

    Args:
        spec: The policy's settings.
        clock: The monotonic clock in seconds.

    By tier and kind of trial it counts how often trying it succeeded; what is past weighs less and less.
    """

    spec: StickySpec
    clock: Callable[[], float] = monotonic
    _states: OrderedDict[str, SessionState] = field(default_factory=OrderedDict)
    _trials: dict[tuple[str, Trial], tuple[float, float]] = field(default_factory=dict)
    _passed_over: int = 0
    _not_retried: int = 0
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
        if state is None:
            place = self._first_place(prompt, tiers)
            tried = tiers[place].name
            turn = Turn(memory=self, session=session, is_tool_loop=is_tool_loop, before=None, tried=tried, trial="new")
            return (replace(compiled, tiers=_from(tiers, place, "stays")) if place else compiled), turn
        place = next((i for i, tier in enumerate(tiers) if tier.name == state.tier), 0)
        turn = Turn(memory=self, session=session, is_tool_loop=is_tool_loop, before=state)
        if place == 0:
            return compiled, turn
        start: Start = "tool_loop" if is_tool_loop else "stays"
        trial = None if is_tool_loop else self._trial(state, prompt, tiers[place], tiers[place - 1])
        if trial is not None:
            place, start = place - 1, "probes"
            turn = replace(turn, tried=tiers[place].name, trial=trial)
        return replace(compiled, tiers=_from(tiers, place, start)), turn

    def _success(self, tier: CompiledTier, trial: Trial) -> float:
        """The probability that a tier's answer is accepted in a trial of a kind."""
        tried, accepted = self._trials.get((tier.name, trial), (0.0, 0.0))
        return (accepted + 1.0) / (tried + 2.0)

    def _first_place(self, prompt: Prompt, tiers: Sequence[CompiledTier]) -> int:
        """Where a new conversation begins: at the first tier, unless trying it has shown not to pay."""
        place = 0
        while place < len(tiers) - 1:
            costs = turn_costs(prompt, tiers[place + 1], tiers[place], is_warm=False)
            if probe_pays(costs, self._success(tiers[place], "new"), self.spec.probe_every):
                break
            place += 1
        if place:
            with self._lock:
                self._passed_over += 1
                if self._passed_over % _EXPLORES == 0:
                    return 0
        return place

    def _trial(self, state: SessionState, prompt: Prompt, tier: CompiledTier, cheaper: CompiledTier) -> Trial | None:
        """Which trial of the cheaper tier the next turn is; None where it stays at the tier."""
        is_warm = self.clock() - state.at <= self.spec.warm_s
        costs = turn_costs(prompt, tier, cheaper, is_warm=is_warm)
        if is_warm and state.turns < self.spec.probe_every:
            return "retry" if state.read_below and self._retries(costs, cheaper) else None
        return "later" if probe_pays(costs, self._success(cheaper, "later"), self.spec.probe_every) else None

    def _retries(self, costs: TurnCosts | None, cheaper: CompiledTier) -> bool:
        """Whether the turn after an escalation begins at the cheaper tier: where that pays, else one in ``_EXPLORES``."""
        if costs is None or retry_pays(costs, self._success(cheaper, "retry")):
            return costs is not None
        with self._lock:
            self._not_retried += 1
            return self._not_retried % _EXPLORES == 0

    def end(self, turn: "Turn", result: Result) -> None:
        """Remembers which tier a turn needed; a provider's failure says nothing about the conversation."""
        if any(attempt.reason == "provider_failure" for attempt in result.attempts):
            return
        answering = [attempt for attempt in result.attempts if attempt.reason not in NOT_ASKED]
        # An answer that no tier accepted needed the last one that was asked.
        tier = result.tier if result.accepted or not answering else answering[-1].tier
        before = turn.before
        turns = 1
        if before is not None and before.tier == tier and turn.tried is None:
            turns = before.turns + (not turn.is_tool_loop)
        with self._lock:
            if turn.tried is not None:
                kind = (turn.tried, turn.trial)
                tried, accepted = self._trials.get(kind, (0.0, 0.0))
                self._trials[kind] = _FORGETS * tried + 1.0, _FORGETS * accepted + (turn.tried == tier)
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
        tried: The tier that it tries, since the conversation is new or may do with a cheaper one; None: it tries none.
        trial: Which kind of trial it is.
    """

    memory: SessionMemory
    session: str
    is_tool_loop: bool
    before: SessionState | None
    tried: str | None = None
    trial: Trial = "new"

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
