"""Gateway: the state that all requests share. It depends neither on the routes nor on the reloader; `app` connects them."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any

from cascade.client import Cascade
from cascade.errors import CascadeError, JournalError
from cascade.models.protocol import Model
from cascade.policy.schema import ModelSpec, PolicyFile
from cascade.telemetry import Telemetry
from cascade.telemetry.http import HttpMetrics

from .auth.key_store import KeyStore
from .auth.keys import Caller, Keys
from .auth.keys_in_service import read_keys
from .limits import Limits, Load
from .schemas.pool import SchemaPool
from .stats import Stats

if TYPE_CHECKING:
    from cascade.journal.journal import Journal
    from cascade.journal.record import Record
    from cascade.resilience.store_health import StoreHealth
    from cascade.state.leased_ledger import LeasedLedger

    from .auth.rates import SharedRates

log = logging.getLogger("cascade.gateway")

_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStatus:
    """Which policy file is in service.

    Attributes:
        loaded: Since when it is in service, in Unix seconds.
        error: Why the current file on disk is not in service; None: it is.
        failed: When that was found, in Unix seconds.
        unusable: The policies that cannot run as the gateway is configured, with the reason for each.
    """

    loaded: float
    error: str | None = None
    failed: float | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class ActiveConfig:
    """One policy file in service, and how many of its runs are in flight.

    Used as a context manager around a run, so that a replaced configuration is closed after its last run.

    Attributes:
        file: The policy file.
        cascade: Runs its policies.
        models: Its models by name, without those that the caller made.
        owns_models: Whether the models are closed with it; those that the caller made are used by the next one as well.
        in_flight: The runs in flight.
        retired: Whether another configuration has replaced it.
    """

    file: PolicyFile
    cascade: Cascade
    models: Mapping[str, ModelSpec]
    owns_models: bool
    in_flight: int = 0
    retired: bool = False

    def policy_name(self, model: str) -> str:
        """The policy that a client's model name means: its own, its alias's, or that of unknown names."""
        file = self.file
        if model in file.policies:
            return model
        if model in file.aliases:
            return file.aliases[model]
        if file.unknown_model == "error" or self._is_tier(model):
            return model
        return file.unknown_model

    def _is_tier(self, name: str) -> bool:
        policy_name, _, tier_name = name.rpartition("/")
        policy = self.file.policies.get(policy_name)
        return policy is not None and any(tier.name == tier_name for tier in policy.tiers)

    def __enter__(self) -> Cascade:
        self.in_flight += 1
        return self.cascade

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Marks the configuration as replaced: it is closed once its runs have ended."""
        self.retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.retired and not self.in_flight and self.owns_models:
            _closing.add(task := asyncio.ensure_future(self.cascade.aclose()))
            task.add_done_callback(_closing.discard)

    async def unusable(self) -> dict[str, str]:
        """The policies that cannot run, with the reason: an API key is not set, a recording does not exist."""
        problems = {}
        for name in self.cascade.policies:
            try:
                await self.cascade.prepare(name)
            except (CascadeError, OSError) as error:
                problems[name] = str(error)
        return problems


_closing: set[asyncio.Task[None]] = set()  # the event loop keeps no strong reference to a task


class Gateway:
    """The state that all requests share: the policies, the API keys, the limits, the journal and the statistics.

    Args:
        file: The policies.
        models: Models by name, which take precedence over those of the file, as with Cascade.
        limits: Limits on requests; None: the defaults.
        registry: The Prometheus registry; None: prometheus_client's default one.
        key_store: Where the API keys are; None: no keys.
        ledger: Keeps budgets and key rates where there is neither a shared state nor a journal; None: this process does.

    Raises:
        PolicyError: A policy cannot be used.
        JournalError: The journal cannot be opened.
        StateError: The shared state's URL is not set, or a package that it needs is not installed.
    """

    def __init__(
        self,
        file: PolicyFile,
        *,
        models: Mapping[str, Model] | None = None,
        limits: Limits | None = None,
        registry: Any = None,
        key_store: KeyStore | None = None,
        ledger: "LeasedLedger[Any] | None" = None,
    ) -> None:
        self.started_at = int(time())
        self._injected_models = dict(models or {})
        self.key_store = key_store
        self.keys = Keys(read_keys(key_store) if key_store is not None else ())
        self.keys_stale_since: float | None = None
        self.limits = limits or Limits()
        self.load = Load(self.limits)
        self.registry = registry
        self.stats = Stats()
        self.schemas = SchemaPool()
        self.closing = asyncio.Event()
        self.draining = False  # another worker serves new requests
        self.journal = _journal(file)
        self._ledger = _shared_ledger(file, self.journal, ledger)
        self.rates = None if self._ledger is None else _rates(self._ledger)
        self.journal_url = file.journal.address() if self.journal is not None and file.journal is not None else None
        spec = file.telemetry
        self.telemetry = Telemetry(
            traces=spec is not None and spec.traces,
            content=spec is not None and spec.content,
            metrics=True,
            registry=registry,
            on_run=self.stats.add_run,
        )
        self._http_metrics, self._shed_reported = HttpMetrics.of(registry), 0
        self._active: ActiveConfig | None = None
        self._active = self.prepare(file)
        self.reload_status = ReloadStatus(loaded=time())

    @property
    def active(self) -> ActiveConfig:
        """The policy file in service."""
        assert self._active is not None
        return self._active

    def prepare(self, file: PolicyFile) -> ActiveConfig:
        """Compiles a policy file so that it can be put into service.

        Raises:
            PolicyError: A policy of the file cannot be used.
        """
        previous = self._active
        cascade = Cascade(
            file,
            models=self._injected_models,
            journal=self.journal,
            telemetry=self.telemetry,
            # What was spent today still counts when the policies change.
            ledger=previous.cascade.ledger if previous is not None else self._ledger,
        )
        if previous is not None:
            cascade.follow(previous.cascade)
        specs = {name: spec for name, spec in file.models.items() if name not in self._injected_models}
        return ActiveConfig(file, cascade, specs, owns_models=not self._injected_models)

    def activate(self, config: ActiveConfig) -> None:
        """Puts a configuration into service; runs in flight end with the previous one."""
        previous, self._active = self.active, config
        previous.retire()

    async def check_policies(self) -> None:
        """Logs which policies cannot run, and keeps the list in ``reload_status``."""
        unusable = await self.active.unusable()
        for name, reason in unusable.items():
            log.warning("policy %r cannot run: %s", name, reason)
        self.reload_status = ReloadStatus(loaded=self.reload_status.loaded, unusable=unusable)

    @property
    def shared_state(self) -> "StoreHealth | None":
        """How the store of shared budgets and key rates is doing; None where this process keeps them."""
        return None if self._ledger is None else self._ledger.health

    def count_response(self, route: str, status: int) -> None:
        """Counts a request that was answered."""
        self._http_metrics.done(route, status)

    def update_load_metrics(self) -> None:
        """Copies the current load into the metrics."""
        shed, self._shed_reported = self.load.shed - self._shed_reported, self.load.shed
        self._http_metrics.load(self.load.requests, shed)
        if (state := self.shared_state) is not None:
            self._http_metrics.shared_state(state.away, state.refused, state.unshared)

    def model_names(self, caller: Caller) -> list[str]:
        """The names that a caller may give as a model: each policy that can run, ``policy/tier`` for a tier, and aliases."""
        policies, unusable = self.active.cascade.policies, self.reload_status.unusable
        names = [
            name
            for policy_name, policy in policies.items()
            for name in (policy_name, *(f"{policy_name}/{tier.name}" for tier in policy.tiers))
            if caller.may(name, policies) and policy_name not in unusable
        ]
        return [*names, *(alias for alias, target in self.active.file.aliases.items() if target in names)]

    async def find_record(self, run_id: str) -> "Record | None":
        """A run's record in the journal; None where there is none, or no journal.

        Raises:
            JournalError: The journal cannot be read.
        """
        if self.journal_url is None:
            return None
        return await asyncio.to_thread(_find_record, self.journal_url, run_id)

    async def aclose(self) -> None:
        """Ends requests in flight, closes connections and writes the journal's last records."""
        deadline = asyncio.get_running_loop().time() + _DRAIN_S
        while self.load.requests and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)  # the server cancelled them: their records still have to be handed over
        await asyncio.gather(self.active.cascade.aclose(), self.schemas.aclose(), *_closing)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)
        if self._ledger is not None and (self.journal is None or self._ledger is not self.journal.ledger):
            await asyncio.to_thread(self._ledger.close)


def _journal(file: PolicyFile) -> "Journal | None":
    if file.journal is None or file.journal.durability == "off":
        return None
    from cascade.journal.journal import Journal

    return Journal(file.journal)


def _shared_ledger(
    file: PolicyFile, journal: "Journal | None", ledger: "LeasedLedger[Any] | None"
) -> "LeasedLedger[Any] | None":
    """Where budgets and key rates are shared: the policy file's ``state``, its journal, or what the caller gives."""
    if file.state is not None:
        from cascade.journal.open_ledger import open_ledger

        return open_ledger(file.state, journal)
    return ledger if journal is None else journal.ledger


def _rates(ledger: "LeasedLedger[Any]") -> "SharedRates":
    from .auth.rates import SharedRates

    return SharedRates(ledger=ledger)


def _find_record(url: str, run_id: str) -> "Record | None":
    from cascade.journal.open_store import open_store

    store = open_store(url, create=False)
    try:
        return store.find(run_id)
    except Exception as error:
        # A driver's message may quote the values that it was given.
        raise JournalError(f"the journal cannot be read ({type(error).__name__})") from None
    finally:
        store.close()
