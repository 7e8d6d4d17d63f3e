"""A policy, ready to run: its tiers with their models, judges and thresholds, and what a run of them may spend."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import thread_time
from typing import Protocol

from cascade.costs.baseline_cost import premium_usd
from cascade.costs.budget import MONTH, Ledger, RunBudget, today
from cascade.costs.output_lengths import OutputLengths
from cascade.policy.calibrators import Calibrator
from cascade.policy.predictor import Predictor
from cascade.policy.routes import Route, first_match
from cascade.policy.schema import Policy
from cascade.policy.thresholds import Thresholds
from cascade.result import Attempt, Result
from cascade.util.log_events import Event, LimitedLog
from judges import Judge, Prompt
from judges.patterns import is_found

from .model_handle import ModelHandle
from .observer import Observer
from .shadow_plan import ShadowPlan

_warnings = LimitedLog(logging.getLogger("cascade.policy"))
DailyBudgets = tuple[tuple[str, float], ...]
"""Budgets that runs share: pairs of a scope and USD per UTC day, or per month where the scope begins with ``MONTH``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What a tier with ``fuse`` reads before it answers.

    Attributes:
        models: The names of the models whose answers are its candidates.
        samples: How many answers of each.
    """

    models: tuple[str, ...]
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """How the embedding of a run's prompt is asked for.

    Attributes:
        handle: The embedding model.
        dimensions: How many numbers an embedding has.
        timeout_s: How long a run waits for it.
    """

    handle: ModelHandle
    dimensions: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledTier:
    """A tier of a policy, ready to run.

    Attributes:
        name: The tier's name in the policy.
        handle: The tier's model.
        thresholds: The thresholds of the confidence.
        prior: The confidence where no judge could score the answer.
        judges: The judges, in the policy's order.
        calibrators: One for each number of judges that scored, 0 first; empty where the tier is not calibrated.
        fallbacks: The models that are called in turn where the tier's own fails.
        reads_agreement: Whether a calibrator reads the agreement with the answers of previous tiers.
        reads_prompt: Whether a calibrator reads what the predictor says of the prompt.
        reads_more: Whether a calibrator reads more than verdicts.
        predictor: The probability that the tier is right, by the prompt; None where nothing reads it.
        task: The task whose thresholds these are; None: those of every run.
        route: The place of the rule in the policy's routes that the run follows; None: none.
        skipped: How many tiers before it that rule leaves out.
        min_confidence: The least confidence that the call accepts, which ``thresholds`` contain; None: the call sets none.
        speculate_below: Below which probability by the prompt the next tier is asked at the same time; None: never.
        p95_s: The 95th percentile of its latency in seconds, by the policy; None: unknown.
        session: Why a conversation's turn begins where it does; None: the run belongs to no conversation that escalated.
        other_models: What is asked at the same time as the tier's model: pairs of a judge's name and the models' names.
        asks_others: Whether other models are asked before or while its own is.
        model_name: The name of its model in the policy file.
        fusion: The candidates that its model reads; None: it answers the prompt alone.
        tools_judge: Checks the calls of answers to prompts with tools, before the other judges; None: it is one of them.
    """

    name: str
    handle: ModelHandle
    thresholds: Thresholds
    prior: float
    judges: tuple[Judge, ...]
    calibrators: tuple[Calibrator, ...] = ()
    fallbacks: tuple[ModelHandle, ...] = ()
    reads_agreement: bool = False
    reads_prompt: bool = False
    reads_more: bool = False
    predictor: Predictor | None = None
    tools_judge: Judge | None = None
    task: str | None = None
    route: int | None = None
    skipped: int = 0
    min_confidence: float | None = None
    speculate_below: float | None = None
    p95_s: float | None = None
    session: str | None = None
    other_models: tuple[tuple[str, tuple[str, ...]], ...] = ()
    asks_others: bool = False
    model_name: str = ""
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPolicy:
    """A policy, ready to run.

    Attributes:
        policy: The policy as the file states it.
        tiers: Its tiers in order.
        handles: Every model that its tiers and judges may call, by name.
        ledger: Keeps what the daily budgets have spent.
        daily: The daily budgets that its runs share with other runs.
        observer: Receives what happens in its runs.
        lengths: The lengths of its answers; None: they are not learned.
        shadow: Which runs the other tiers answer, too; None: no run.
        tasks: The variants of the policy by task; None: no tier has thresholds by task, and no predictor reads the task.
        routes: Where runs begin; None: all at the first tier.
        canary: The candidate calibration, which a share of the runs has; None: there is none.
        sessions: Its conversations; None: it does not treat them together.
        speculates: Whether a tier may be asked before the one before it is judged.
        caller_task: The run's task, where a predictor reads it.
        embedder: The embedding that predictors read; None: none does.
        is_plain: Whether its tiers are asked one after the other and nothing is asked before them.
    """

    policy: Policy
    tiers: tuple[CompiledTier, ...]
    handles: dict[str, ModelHandle]
    ledger: Ledger | None = None
    daily: DailyBudgets = ()
    observer: Observer | None = None
    lengths: OutputLengths | None = None
    shadow: ShadowPlan | None = None
    tasks: "TaskPlan | None" = None
    routes: "RoutePlan | None" = None
    canary: "CanaryPlan | None" = None
    speculates: bool = False
    sessions: "Sessions | None" = None
    caller_task: str | None = None
    embedder: Embedder | None = None
    is_plain: bool = True

    def premium_usd(self, prompt: Prompt, attempts: Sequence[Attempt], result: Result | None) -> float | None:
        """Estimates in USD what the last tier alone would have cost; None where unknown.

        Args:
            prompt: What the run asked.
            attempts: The run's attempts, in order.
            result: The run's result; None where it has none.
        """
        premium = self.tiers[-1]
        return premium_usd(
            prompt,
            attempts,
            result,
            tier=premium.name,
            price=premium.handle.pricer.cost,
            recorded_cost=getattr(premium.handle.model, "recorded_cost", None),
            candidates=() if premium.fusion is None else premium.fusion.models,
        )


class SessionTurn(Protocol):
    """One run of a conversation."""

    def end(self, result: Result) -> None:
        """Stores which tier the turn needed."""
        ...


class Sessions(Protocol):
    """The conversations of a policy."""

    def begin(self, compiled: CompiledPolicy, session: str, prompt: Prompt) -> tuple[CompiledPolicy, SessionTurn]:
        """The policy for the next turn of a conversation, and the turn, which is to be ended with the result."""
        ...


MOST_READ = 10_000
"""Characters of a prompt that the patterns of a policy's tasks are matched against."""
PATTERN_SECONDS = 0.05
"""CPU time that all of them may take for one prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """A policy whose tiers have thresholds by task.

    Attributes:
        tag: The tag of a run that names its task.
        patterns: Pairs of a task and what a prompt of it contains, tried in order where a run has no such tag, for at most
            ``PATTERN_SECONDS``: what takes longer matches nothing.
        variants: The policy with each task's thresholds.
        is_evidence: Whether a predictor reads the task.
    """

    tag: str
    patterns: tuple[tuple[str, str], ...]
    variants: Mapping[str, CompiledPolicy]
    is_evidence: bool = False

    def task_of(self, prompt: Prompt, tags: Mapping[str, object] | None) -> str | None:
        """The run's task, by its tag, else by the first pattern that matches; None where neither says one."""
        if tags is not None and self.tag in tags:
            return str(tags[self.tag])
        if self.patterns:
            return self._task_by_pattern(prompt.text[:MOST_READ])
        return None

    def _task_by_pattern(self, text: str) -> str | None:
        ends = thread_time() + PATTERN_SECONDS
        for task, pattern in self.patterns:
            try:
                if is_found(pattern, text, ends - thread_time()):
                    return task
            except TimeoutError:
                _warnings.warning(task, Event("a task's pattern takes too long: the prompt has no task", task=task))
                return None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """The routes of a policy, ready to use.

    Attributes:
        routes: The rules in order.
        tasks: Finds a run's task.
        order: The place of each tier in the policy.
    """

    routes: tuple[Route, ...]
    tasks: TaskPlan
    order: Mapping[str, int]

    def match(self, prompt: Prompt, tags: Mapping[str, object] | None) -> int | None:
        """The place of the rule that a run follows; None where none matches."""
        return first_match(self.routes, prompt, tags or {}, self.tasks.task_of(prompt, tags))


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPlan:
    """A policy of which a share of the runs has another calibration.

    Attributes:
        candidate: The policy with the candidate calibration.
        share: The share of its runs.
        tag: Runs with the same value of this tag have the same calibration.
        salt: Makes the choice independent of that in other canaries, and of the sample that is shadowed.
    """

    candidate: CompiledPolicy
    share: float
    tag: str
    salt: str


def new_run_budget(compiled: CompiledPolicy, budget_usd: float | None = None, daily: DailyBudgets = ()) -> RunBudget:
    """Makes the budget of one run.

    Args:
        compiled: The policy.
        budget_usd: The most that the run may spend, in place of the policy's.
        daily: Daily budgets in addition to the policy's own.
    """
    policy, shared = compiled.policy, compiled.daily + daily
    return RunBudget(
        max_calls=policy.max_calls,
        budget_usd=policy.budget_usd if budget_usd is None else budget_usd,
        max_samples=policy.max_samples,
        limits=_limits_of(today(), shared) if shared else {},
        ledger=compiled.ledger,
        lengths=compiled.lengths,
    )


@lru_cache(maxsize=64)
def _limits_of(day: str, daily: DailyBudgets) -> Mapping[str, float]:
    return {period_scope(day, scope): usd for scope, usd in daily}


def period_scope(day: str, scope: str) -> str:
    """A budget's scope in the ledger: with its UTC day, or with its month where it begins with ``MONTH``."""
    return f"{day[:7] if scope.startswith(MONTH) else day} {scope}"


def tag_budgets(rules: Mapping[str, DailyBudgets], tags: Mapping[str, object] | None) -> DailyBudgets:
    """The budgets that a run's tags put it under.

    Args:
        rules: By the name of a tag, the budgets of each of its values: pairs of how the scope begins, and USD.
        tags: The run's tags.
    """
    if not tags:
        return ()
    return tuple((f"{scope}={tags[name]}", usd) for name, budgets in rules.items() if name in tags for scope, usd in budgets)
