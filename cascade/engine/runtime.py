"""The policies of one Cascade, ready to run: for each event loop its models, with their connections, and its policies."""

import asyncio
import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import judges
from cascade.costs.budget import MONTH, Ledger
from cascade.costs.output_lengths import OutputLengths
from cascade.costs.overruns import Overruns
from cascade.costs.prices import Pricer
from cascade.errors import PolicyError
from cascade.models.factory import build, build_embeddings
from cascade.models.protocol import Model
from cascade.policy.calibrators import from_json
from cascade.policy.predictor import from_json as predictor_from_json
from cascade.policy.schema import EmbeddingSpec, ModelSpec, Policy, TierPolicy
from cascade.resilience.breaker import BreakerRule
from cascade.resilience.guard import Guard, ModelHealth, Retry
from cascade.util.after_fork import restart_after_fork
from cascade.util.suggestions import unknown

from .model_handle import ModelHandle
from .observer import Observer
from .plan import CanaryPlan, CompiledPolicy, CompiledTier, Embedder, Fusion
from .routing import route_plan
from .sessions import SessionMemory
from .shadow_plan import ShadowPlan
from .tasks import with_tasks


class _LoopState:
    """The state of one event loop: models with their connections, and the policies compiled with them."""

    def __init__(self) -> None:
        self.handles: dict[str, ModelHandle] = {}
        self.embedders: dict[EmbeddingSpec, ModelHandle] = {}
        self.compiled: dict[str, CompiledPolicy] = {}


class Runtime:
    """Compiles policies once for each event loop, since connections belong to a loop; all loops share a model's guard.

    Args:
        policies: The policies by name.
        specs: The policy file's models by name.
        models: The models that the caller made, by name; they take precedence.
        ledger: Keeps what the daily budgets have spent.
        observer: Receives what happens in the runs.
        usd_per_day: The daily budget of all policies together.
        usd_per_month: Their budget of a month.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        specs: Mapping[str, ModelSpec],
        models: Mapping[str, Model],
        ledger: Ledger,
        observer: Observer | None = None,
        usd_per_day: float | None = None,
        usd_per_month: float | None = None,
    ) -> None:
        self._policies, self._specs, self._models = policies, specs, models
        self._ledger, self._observer = ledger, observer
        self._usd_per_day, self._usd_per_month = usd_per_day, usd_per_month
        self._guards: dict[str, Guard] = {}
        self._overruns: dict[str, Overruns] = {}
        self._lengths: dict[str, OutputLengths] = {}
        self._sessions: dict[str, SessionMemory] = {}
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self.closed = False
        restart_after_fork(self)

    def restart(self) -> None:
        """See ``Restartable``: limits and breakers are reset, since they count the parent's requests in flight."""
        self._lock = threading.Lock()
        self._guards = {}

    def compile(self, name: str) -> CompiledPolicy:
        """Returns a policy, ready to run in the running event loop; it is compiled the first time.

        Args:
            name: A policy's name, or ``policy/tier`` for that tier alone.

        Raises:
            PolicyError: There is no such policy, or it cannot be used.
            RuntimeError: The Cascade is closed.
        """
        state = self._loops.get(asyncio.get_running_loop())
        compiled = state.compiled.get(name) if state is not None else None
        return compiled if compiled is not None else self._compile(name)

    def policy(self, name: str) -> Policy:
        """Returns the policy of that name; ``policy/tier`` is the policy with that tier alone. Raises PolicyError."""
        policy = self._policies.get(name)
        if policy is not None:
            return policy
        policy_name, slash, tier_name = name.rpartition("/")
        if slash and policy_name in self._policies:
            return _single_tier(self._policies[policy_name], tier_name)
        raise PolicyError(unknown("policy", name, self._policies))

    def replace_policy(self, name: str, policy: Policy) -> None:
        """Puts another policy into service under a name: runs that begin from now on use it.

        Args:
            name: The name of a policy.
            policy: A policy of the same models.
        """
        with self._lock:
            self._policies = {**self._policies, name: policy}
            states = list(self._loops.values())
        for state in states:
            for key in [key for key in state.compiled if key == name or key.startswith(f"{name}/")]:
                state.compiled.pop(key, None)

    def model(self, name: str) -> ModelHandle:
        """A model by its name, with connections of its own. Raises PolicyError where there is none."""
        return self._handle(name)

    def health(self) -> dict[str, ModelHealth]:
        """Returns the health of each model that was used so far, by its name in the policy file."""
        with self._lock:
            return {name: guard.health() for name, guard in self._guards.items()}

    def follow(self, previous: "Runtime") -> None:
        """Takes over the state of ``previous`` for models whose settings are the same, and for the policies' answers."""
        with previous._lock, self._lock:
            for name, guard in previous._guards.items():
                if self._specs.get(name) == previous._specs.get(name):
                    self._guards[name] = guard
                    if name in previous._overruns:
                        self._overruns[name] = previous._overruns[name]
            self._lengths.update(previous._lengths)
            self._sessions.update(previous._sessions)

    def _compile(self, name: str) -> CompiledPolicy:
        policy = self.policy(name)
        with self._lock:
            if self.closed:
                raise RuntimeError("this Cascade is closed")
            state = self._loops.setdefault(asyncio.get_running_loop(), _LoopState())
            lengths = self._lengths.setdefault(name, OutputLengths())
            sessions = self._sessions_of(name, policy)
        candidate, names = policy.candidate, policy.answering_models
        if candidate is not None:
            names |= candidate.answering_models
        for model in sorted(names - state.handles.keys()):
            state.handles[model] = self._handle(model)
        policy_name = name if name in self._policies else name.rpartition("/")[0]
        daily = (
            (f"policy {policy_name}", policy.budget_usd_per_day),
            ("all policies", self._usd_per_day),
            (f"{MONTH}policy {policy_name}", policy.budget_usd_per_month),
            (f"{MONTH}all policies", self._usd_per_month),
        )

        def compiled_with(one: Policy, canary: CanaryPlan | None = None) -> CompiledPolicy:
            speculates = any(tier.speculate_below is not None for tier in one.tiers)
            embedder = self._embedder(one, state)
            return with_tasks(
                CompiledPolicy(
                    policy=one,
                    tiers=tuple(_compile_tier(tier, state.handles) for tier in one.tiers),
                    handles=state.handles,
                    ledger=self._ledger,
                    daily=tuple((scope, usd) for scope, usd in daily if usd is not None),
                    observer=self._observer,
                    lengths=lengths,
                    shadow=ShadowPlan.of(one),
                    routes=route_plan(one),
                    canary=canary,
                    sessions=sessions,
                    speculates=speculates,
                    embedder=embedder,
                    is_plain=not speculates and embedder is None,
                )
            )

        canary = None
        if candidate is not None and policy.canary is not None:
            spec = policy.canary
            salt = f"{policy_name} {candidate.hash}"
            canary = CanaryPlan(candidate=compiled_with(candidate), share=spec.share, tag=spec.tag, salt=salt)
        compiled = compiled_with(policy, canary)
        if compiled.daily or policy.budget_usd is not None:
            check_priced(compiled)
        state.compiled[name] = compiled
        return compiled

    def _embedder(self, policy: Policy, state: _LoopState) -> Embedder | None:
        """How a policy's embeddings are asked for; None where none of its predictors reads one."""
        spec = policy.embedding
        if spec is None or not policy.reads_embedding:
            return None
        if spec not in state.embedders:
            state.embedders[spec] = self._handle(spec.model, spec)
        return Embedder(handle=state.embedders[spec], dimensions=spec.dimensions, timeout_s=spec.timeout_s)

    def _sessions_of(self, name: str, policy: Policy) -> SessionMemory | None:
        """The memory of a policy's conversations, which stays the same while its settings do."""
        if policy.sticky is None:
            return None
        memory = self._sessions.get(name)
        if memory is None or memory.spec != policy.sticky:
            memory = self._sessions[name] = SessionMemory(policy.sticky)
        return memory

    def _handle(self, name: str, embedding: EmbeddingSpec | None = None) -> ModelHandle:
        spec, model = self._specs.get(name), self._models.get(name)
        if model is None:
            if spec is None:
                user = "a judge" if embedding is None else "the embedding"
                raise PolicyError(f"{user} uses the model {name!r}, which is missing; add it to models={{...}}")
            if embedding is None:
                model = build(name, spec)
            else:
                requests_dimensions = embedding.request_dimensions
                model = build_embeddings(name, spec, embedding.dimensions, requests_dimensions=requests_dimensions)
        with self._lock:
            guard = self._guards.setdefault(name, _guard_of(name, spec))
            overruns = self._overruns.setdefault(name, Overruns(name=name))
        if self._observer is not None and guard.breaker is not None:
            self._observer.watch(name, guard.breaker)
        return ModelHandle(model, Pricer(name, spec), self._observer, guard, overruns)

    async def aclose(self) -> None:
        """Closes every model's connections; runs still in progress fail."""
        with self._lock:
            self.closed = True
            states = list(self._loops.items())
            self._loops = WeakKeyDictionary()
        running_loop = asyncio.get_running_loop()
        caller_models = set(map(id, self._models.values()))
        closed: set[int] = set()
        for loop, state in states:
            for handle in (*state.handles.values(), *state.embedders.values()):
                if id(handle.model) in closed:
                    continue
                closed.add(id(handle.model))
                # The caller's models are not tied to our loops; a model that we built must be closed where it was used.
                if loop is running_loop or id(handle.model) in caller_models:
                    await handle.model.close()
                elif loop.is_running():
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(handle.model.close(), loop))
                elif loop.is_closed():  # its connections ended with it; aiohttp would report them as not closed
                    loop.set_exception_handler(lambda *_: None)


def unpriced(compiled: CompiledPolicy) -> list[str]:
    """Returns the policy's models for which the most that an answer costs is unknown."""
    handles = dict(compiled.handles)
    if compiled.embedder is not None:
        handles[compiled.embedder.handle.model.name] = compiled.embedder.handle
    return sorted(model for model in compiled.policy.model_names if not handles[model].priced)


def check_priced(compiled: CompiledPolicy) -> None:
    """Raises PolicyError where a model's price is unknown, since no budget could be enforced."""
    if missing := unpriced(compiled):
        raise PolicyError(
            f"the budget cannot be enforced: the price of the model {', '.join(missing)} is not known; give "
            f"models.{missing[0]}.price in the policy file, or the model an attribute max_cost_usd"
        )


def tier_of(compiled: CompiledPolicy, name: str | None) -> CompiledTier:
    """Returns the policy's tier of that name, or its first where ``name`` is None.

    Raises:
        PolicyError: There is no such tier, or the policy is a task's variant that does not ask it.
    """
    if name is None:
        return compiled.tiers[0]
    for tier in compiled.tiers:
        if tier.name == name:
            return tier
    names = [tier.name for tier in compiled.tiers]
    if any(tier.name == name for tier in compiled.policy.tiers):
        raise PolicyError(f"the task {compiled.tiers[0].task!r} does not ask the tier {name!r}; it asks: {', '.join(names)}")
    raise PolicyError(unknown("tier", name, names))


def _guard_of(name: str, spec: ModelSpec | None) -> Guard:
    """The model's retries, breaker and limits; the defaults where nothing is set."""
    if spec is None:
        return Guard.of(breaker=BreakerRule(), name=name)
    return Guard.of(
        retry=Retry(**spec.retry.model_dump()),
        breaker=BreakerRule(**spec.breaker.model_dump()) if spec.breaker is not None else None,
        max_concurrency=spec.max_concurrency,
        requests_per_s=spec.requests_per_s,
        hedge=spec.hedge,
        name=name,
    )


def _compile_tier(tier: TierPolicy, handles: Mapping[str, ModelHandle]) -> CompiledTier:
    calibrators = tuple(from_json(mapping) for mapping in tier.confidence or ())
    tier_judges = tuple(judges.make(rule.use, **rule.options) for rule in tier.judges)
    checks_tools = any(rule.use == "tools" for rule in tier.judges)
    reads_agreement = any(calibrator.reads_agreement for calibrator in calibrators)
    reads_prompt = any(calibrator.reads_prompt for calibrator in calibrators)
    predicts = reads_prompt or tier.skip_below is not None or tier.speculate_below is not None
    other_models = tuple((judge.name, models) for judge in tier_judges if (models := getattr(judge, "asks_with_answer", ())))
    return CompiledTier(
        name=tier.name,
        handle=handles[tier.model],
        thresholds=tier.thresholds,
        prior=tier.prior,
        judges=tier_judges,
        calibrators=calibrators,
        fallbacks=tuple(handles[model] for model in tier.fallbacks),
        reads_agreement=reads_agreement,
        reads_prompt=reads_prompt,
        reads_more=reads_agreement or reads_prompt,
        predictor=predictor_from_json(tier.predictor) if predicts and tier.predictor is not None else None,
        speculate_below=tier.speculate_below,
        p95_s=tier.p95_s,
        tools_judge=None if checks_tools else judges.make("tools"),
        other_models=other_models,
        asks_others=bool(other_models or tier.fuse),
        model_name=tier.model,
        fusion=Fusion(models=tuple(tier.fuse), samples=tier.samples or 1) if tier.fuse else None,
    )


def _single_tier(policy: Policy, name: str) -> Policy:
    tiers = [tier for tier in policy.tiers if tier.name == name]
    if not tiers:
        raise PolicyError(unknown("tier", name, (tier.name for tier in policy.tiers)))
    alone = [tier.model_copy(update={"accept_at_by_task": None}) for tier in tiers]
    absent = dict.fromkeys(("calibration", "shadow", "promise", "routes", "canary", "sticky"))
    return policy.model_copy(update={"tiers": alone, **absent})
