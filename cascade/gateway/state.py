"""Gateway: what all requests share."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from cascade.client import Cascade
from cascade.errors import CascadeError
from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.auth.keys import Caller, Keys
from cascade.gateway.dashboard.events import SseHub
from cascade.gateway.dashboard.stats import Stats
from cascade.gateway.serve.limits import Limits, Load
from cascade.gateway.serve.reload import Reloader
from cascade.models.protocol import Model
from cascade.policy.schema import ModelSpec, PolicyFile
from cascade.telemetry import Telemetry
from cascade.telemetry.http import HttpMetrics

if TYPE_CHECKING:
    from cascade.journal.journal import Journal


log = logging.getLogger("cascade.gateway")

_LAST_S = 1.0


class ActiveConfig:
    """One policy file in service, and how many of its runs are under way."""

    __slots__ = ("_owns", "cascade", "file", "models", "retired", "under_way")

    def __init__(self, file: PolicyFile, cascade: Cascade, models: Mapping[str, ModelSpec], owns: bool) -> None:
        self.file, self.cascade, self.models, self._owns = file, cascade, models, owns
        self.under_way, self.retired = 0, False

    def __enter__(self) -> Cascade:
        self.under_way += 1
        return self.cascade

    def __exit__(self, *_: object) -> None:
        self.under_way -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Another file is in service; this one is closed once its runs have ended."""
        self.retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        # Models that were given go on in the next file's service.
        if self.retired and not self.under_way and self._owns:
            _closing.add(task := asyncio.ensure_future(self.cascade.aclose()))
            task.add_done_callback(_closing.discard)

    async def unusable(self) -> dict[str, str]:
        """The policies that cannot be asked, by why: a key is not set, a recording is not there."""
        found = {}
        for name in self.cascade.policies:
            try:
                await self.cascade.prepare(name)
            except (CascadeError, OSError) as error:
                found[name] = str(error)
        return found


_closing: set[asyncio.Task[None]] = set()  # the event loop keeps no strong reference to a task


class Gateway:
    """What all requests share: the policies, the keys, the limits, the journal and the figures.

    ``models`` gives models by name and takes precedence over the file's, as with Cascade. ``registry`` is
    prometheus_client's default one where it is None. ``path`` and ``key_file`` are looked at for changes. Raises PolicyError
    and JournalError. Close it with ``aclose``.
    """

    def __init__(
        self,
        file: PolicyFile,
        *,
        models: Mapping[str, Model] | None = None,
        limits: Limits | None = None,
        registry: Any = None,
        path: Path | None = None,
        key_file: KeyFile | None = None,
    ) -> None:
        self.began = int(time())
        self._given = dict(models or {})
        self.keys = Keys(key_file.read() if key_file is not None else ())
        self.limits = limits or Limits()
        self.load = Load(self.limits)
        self.registry = registry
        self.figures = Stats()
        self.closing = asyncio.Event()
        self.journal = _journal(file)
        self.journal_url = file.journal.address() if self.journal is not None and file.journal is not None else None
        spec = file.telemetry
        self.telemetry = Telemetry(
            traces=spec is not None and spec.traces,
            content=spec is not None and spec.content,
            metrics=True,
            registry=registry,
            on_run=self.figures.ended,
        )
        self._http, self._shed_told = HttpMetrics.of(registry), 0
        self.broadcast = SseHub(self)
        self.reloader = Reloader(self, path, key_file)
        self.serving = self.prepare(file)
        self._watching: asyncio.Task[None] | None = None

    def prepare(self, file: PolicyFile) -> ActiveConfig:
        """A policy file, ready to be put into service. Raises PolicyError."""
        before = getattr(self, "serving", None)
        cascade = Cascade(
            file,
            models=self._given,
            journal=self.journal,
            telemetry=self.telemetry,
            # What a day has spent stays spent when the policies change.
            ledger=before.cascade.ledger if before is not None else None,
        )
        if before is not None:
            cascade.follow(before.cascade)
        specs = {name: spec for name, spec in file.models.items() if name not in self._given}
        return ActiveConfig(file, cascade, specs, owns=not self._given)

    def answered(self, route: str, status: int) -> None:
        """Counts a request."""
        self._http.done(route, status)

    def tell_load(self) -> None:
        """Brings the metrics of the load up to date."""
        shed, self._shed_told = self.load.shed - self._shed_told, self.load.shed
        self._http.load(self.load.requests, shed)

    def swap(self, serving: ActiveConfig) -> None:
        """Puts a policy file into service: runs under way end by the old one."""
        old, self.serving = self.serving, serving
        old.retire()

    async def start(self) -> None:
        """Says which policies cannot be asked, and begins to look for changes."""
        reloader = self.reloader
        unusable = await self.serving.unusable()
        for name, why in unusable.items():
            log.warning("policy %r cannot be asked: %s", name, why)
        reloader.status = replace(reloader.status, unusable=unusable)
        self._watching = asyncio.ensure_future(reloader.watch())

    def names(self, caller: Caller) -> list[str]:
        """What a caller may name: each policy that can be asked, and ``policy/tier`` for a tier alone."""
        policies, unusable = self.serving.cascade.policies, self.reloader.status.unusable or {}
        return [
            name
            for outer, policy in policies.items()
            for name in (outer, *(f"{outer}/{tier.name}" for tier in policy.tiers))
            if caller.may(name, policies) and outer not in unusable
        ]

    async def aclose(self) -> None:
        """Ends what is still under way, closes connections and writes the journal's last records."""
        if self._watching is not None:
            self._watching.cancel()
        ends = asyncio.get_running_loop().time() + _LAST_S
        while self.load.requests and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.01)  # cancelled by the server: their records are still to be handed over
        await asyncio.gather(self.serving.cascade.aclose(), *_closing)
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)


def _journal(file: PolicyFile) -> "Journal | None":
    if file.journal is None or file.journal.durability == "off":
        return None
    from cascade.journal.journal import Journal

    return Journal(file.journal)
