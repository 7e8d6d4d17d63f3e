"""Gateway: what all requests share."""

import asyncio
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any

from ..models.model import Model
from ..policy import ModelSpec, PolicyFile
from ..service import Cascade
from ..telemetry import Telemetry
from .keys import Caller, Keys
from .limits import Limits, Load

if TYPE_CHECKING:
    from ..journal.journal import Journal


class Serving:
    """One policy file in service, and how many of its runs are under way."""

    __slots__ = ("cascade", "file", "models", "retired", "under_way")

    def __init__(self, file: PolicyFile, cascade: Cascade, models: Mapping[str, ModelSpec]) -> None:
        self.file, self.cascade, self.models = file, cascade, models
        self.under_way, self.retired = 0, False

    def __enter__(self) -> Cascade:
        self.under_way += 1
        return self.cascade

    def __exit__(self, *_: object) -> None:
        self.under_way -= 1
        if self.retired and not self.under_way:
            _closing.add(task := asyncio.ensure_future(self.cascade.aclose()))
            task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()  # the event loop keeps no strong reference to a task


class Gateway:
    """What all requests share: the policies, the keys, the limits, the journal and the figures.

    ``models`` gives models by name and takes precedence over the file's, as with Cascade. ``registry`` is
    prometheus_client's default one where it is None. Raises PolicyError and JournalError. Close it with ``aclose``.
    """

    def __init__(
        self,
        file: PolicyFile,
        *,
        models: Mapping[str, Model] | None = None,
        keys: Keys | None = None,
        limits: Limits | None = None,
        registry: Any = None,
    ) -> None:
        self.began = int(time())
        self._given = dict(models or {})
        self.keys = keys or Keys()
        self.limits = limits or Limits()
        self.load = Load(self.limits)
        self.registry = registry
        self.closing = asyncio.Event()
        self.journal = _journal(file)
        spec = file.telemetry
        self.telemetry = Telemetry(
            traces=spec is not None and spec.traces,
            content=spec is not None and spec.content,
            metrics=True,
            registry=registry,
        )
        self.serving = self._serve(file, None)

    def _serve(self, file: PolicyFile, before: Serving | None) -> Serving:
        cascade = Cascade(
            file,
            models=self._given,
            journal=self.journal,
            telemetry=self.telemetry,
            # What a day has spent stays spent when the policies change.
            ledger=before.cascade.ledger if before is not None else None,
        )
        specs = {name: spec for name, spec in file.models.items() if name not in self._given}
        return Serving(file, cascade, specs)

    def names(self, caller: Caller) -> list[str]:
        """What a caller may name: each policy, and ``policy/tier`` for a tier alone."""
        policies = self.serving.cascade.policies
        return [
            name
            for outer, policy in policies.items()
            for name in (outer, *(f"{outer}/{tier.name}" for tier in policy.tiers))
            if caller.may(name, policies)
        ]

    async def aclose(self) -> None:
        """Closes connections and writes the journal's last records."""
        await self.serving.cascade.aclose()
        if self.journal is not None:
            await asyncio.to_thread(self.journal.close)


def _journal(file: PolicyFile) -> "Journal | None":
    if file.journal is None or file.journal.durability == "off":
        return None
    from ..journal.journal import Journal

    return Journal(file.journal)
