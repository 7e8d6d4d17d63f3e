"""The policies of one Cascade, ready to run: for each event loop its models with their connections, and its ladders."""

import asyncio
import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import judges
from cascade.costs.budget import Ledger
from cascade.costs.prices import Pricer
from cascade.errors import PolicyError
from cascade.models.factory import build
from cascade.models.protocol import Model
from cascade.policy.calibrators import from_json
from cascade.policy.schema import ModelSpec, Policy, TierPolicy, nearest
from cascade.resilience.breaker import BreakerRule
from cascade.resilience.guard import Guard, ModelHealth, Retry

from .calls import ModelHandle
from .observer import Observer
from .plan import CompiledPolicy, CompiledTier


class _LoopRuntime:
    """What one event loop owns: models with their connections, and the ladders made of them."""

    def __init__(self) -> None:
        self.seats: dict[str, ModelHandle] = {}
        self.ladders: dict[str, CompiledPolicy] = {}


class Runtime:
    """A room for each event loop that asks, since connections belong to a loop; a model's guard is shared by all of them.

    ``specs`` are the policy file's models, ``given`` those that a caller made; ``usd_per_day`` is everybody's budget.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        specs: Mapping[str, ModelSpec],
        given: Mapping[str, Model],
        ledger: Ledger,
        observer: Observer | None = None,
        usd_per_day: float | None = None,
    ) -> None:
        self._policies, self._specs, self._given = policies, specs, given
        self._ledger, self._observer, self._usd_per_day = ledger, observer, usd_per_day
        self._guards: dict[str, Guard] = {}
        self._rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopRuntime] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self.closed = False

    def ladder(self, name: str) -> CompiledPolicy:
        """The policy of that name, made in this event loop when it is first asked for. Raises PolicyError."""
        room = self._rooms.get(asyncio.get_running_loop())
        ladder = room.ladders.get(name) if room is not None else None
        return ladder if ladder is not None else self._make(name)

    def policy(self, name: str) -> Policy:
        """The policy of that name; ``policy/tier`` is the policy with that tier alone. Raises PolicyError."""
        found = self._policies.get(name)
        if found is not None:
            return found
        outer, slash, inner = name.rpartition("/")
        if slash and outer in self._policies:
            return _pinned(self._policies[outer], inner)
        known = list(self._policies)
        raise PolicyError(f"unknown policy {name!r}{nearest(name, known)}; known: {', '.join(known)}")

    def health(self) -> dict[str, ModelHealth]:
        """How each model that was asked so far does, by its name in the policy file."""
        with self._lock:
            return {name: guard.health() for name, guard in self._guards.items()}

    def follow(self, before: "Runtime") -> None:
        """Keeps what is known of the models whose settings are the same: breakers, limits, latencies."""
        with before._lock, self._lock:
            for name, guard in before._guards.items():
                if self._specs.get(name) == before._specs.get(name):
                    self._guards[name] = guard

    def _make(self, name: str) -> CompiledPolicy:
        policy = self.policy(name)
        with self._lock:
            if self.closed:
                raise RuntimeError("this Cascade is closed")
            room = self._rooms.setdefault(asyncio.get_running_loop(), _LoopRuntime())
        for model in sorted(policy.asks - room.seats.keys()):
            room.seats[model] = self._seat(model)
        whole = name if name in self._policies else name.rpartition("/")[0]
        daily = ((f"policy {whole}", policy.budget_usd_per_day), ("all policies", self._usd_per_day))
        ladder = CompiledPolicy(
            policy,
            tuple(_tier(t, room.seats) for t in policy.tiers),
            room.seats,
            self._ledger,
            tuple((scope, usd) for scope, usd in daily if usd is not None),
            self._observer,
        )
        if ladder.daily or policy.budget_usd is not None:
            check_priced(ladder)
        room.ladders[name] = ladder
        return ladder

    def _seat(self, name: str) -> ModelHandle:
        spec, model = self._specs.get(name), self._given.get(name)
        if model is None:
            if spec is None:
                raise PolicyError(f"a judge asks for the model {name!r}, which was not given")
            model = build(name, spec)
        with self._lock:
            guard = self._guards.setdefault(name, _guard_of(spec))
        if self._observer is not None and guard.breaker is not None:
            self._observer.watch(name, guard.breaker)
        return ModelHandle(model, Pricer(name, spec), self._observer, guard)

    async def aclose(self) -> None:
        """Closes every model's connections; runs still under way fail."""
        with self._lock:
            self.closed = True
            rooms = list(self._rooms.items())
            self._rooms = WeakKeyDictionary()
        here = asyncio.get_running_loop()
        given = set(map(id, self._given.values()))
        done: set[int] = set()
        for loop, room in rooms:
            for seat in room.seats.values():
                if id(seat.model) in done:
                    continue
                done.add(id(seat.model))
                # A given model belongs to no loop of ours; one that we built must be closed where it was used.
                if loop is here or id(seat.model) in given:
                    await seat.model.close()
                elif loop.is_running():
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(seat.model.close(), loop))


def unpriced(ladder: CompiledPolicy) -> list[str]:
    """The models of a ladder of which nobody can say what an answer costs at most."""
    return sorted(model for model in ladder.policy.asks if not ladder.seats[model].priced)


def check_priced(ladder: CompiledPolicy) -> None:
    """A budget over a model without a known price could not be kept. Raises PolicyError."""
    if missing := unpriced(ladder):
        raise PolicyError(
            f"the budget cannot be kept: the price of the model {', '.join(missing)} is not known; give "
            f"models.{missing[0]}.price in the policy file, or the model an attribute max_cost_usd"
        )


def tier_of(ladder: CompiledPolicy, name: str | None) -> CompiledTier:
    """The ladder's tier of that name, or its first. Raises PolicyError."""
    if name is None:
        return ladder.tiers[0]
    for tier in ladder.tiers:
        if tier.name == name:
            return tier
    raise _unknown_tier(name, [t.name for t in ladder.tiers])


def _guard_of(spec: ModelSpec | None) -> Guard:
    """The model's retries, breaker and limits; the defaults where nothing is set."""
    if spec is None:
        return Guard.of(breaker=BreakerRule())
    return Guard.of(
        retry=Retry(**spec.retry.model_dump()),
        breaker=BreakerRule(**spec.breaker.model_dump()) if spec.breaker is not None else None,
        max_concurrency=spec.max_concurrency,
        requests_per_s=spec.requests_per_s,
        hedge=spec.hedge,
    )


def _tier(tier: TierPolicy, seats: Mapping[str, ModelHandle]) -> CompiledTier:
    made = tuple(judges.make(rule.use, **rule.options) for rule in tier.judges)
    calibrators = tuple(from_json(mapping) for mapping in tier.confidence or ())
    compares = "agrees:" in str(tier.confidence)
    fallbacks = tuple(seats[model] for model in tier.fallbacks)
    return CompiledTier(tier.name, seats[tier.model], tier.thresholds, tier.prior, made, calibrators, fallbacks, compares)


def _pinned(policy: Policy, name: str) -> Policy:
    tiers = [tier for tier in policy.tiers if tier.name == name]
    if not tiers:
        raise _unknown_tier(name, [tier.name for tier in policy.tiers])
    return policy.model_copy(update={"tiers": tiers, "calibration": None})


def _unknown_tier(name: str, known: list[str]) -> PolicyError:
    return PolicyError(f"unknown tier {name!r}{nearest(name, known)}; known: {', '.join(known)}")
