"""When a ledger reports to its store: soon after a change, when a block is idle or due for renewal, and after an outage."""

import threading
import weakref
from time import monotonic
from typing import Protocol

from cascade.resilience.store_health import StoreHealth


class ReportingLedger(Protocol):
    """A ledger that enters in its store what requests cost, a little later than they are settled."""

    health: StoreHealth
    pause_s: float
    """How long the changes of a moment are collected before they are reported, in seconds."""

    @property
    def waiting(self) -> bool:
        """Whether something is to be reported or returned."""

    def report(self, *, everything: bool = False) -> None:
        """Reports what was spent and returns what is idle; ``everything``: renews every block."""


def report_until(
    ledger: "weakref.ref[ReportingLedger]",
    closing: threading.Event,
    changed: threading.Event,
    pauses: tuple[float, float, float | None],
) -> None:
    """Has the ledger report soon after a change, return idle blocks, renew the others, and check whether its store is back.

    Args:
        ledger: The ledger, as long as there is one.
        closing: Ends it.
        changed: There is something to report.
        pauses: Seconds until a block is idle, between renewals, and between pings (None: no pings).
    """
    idle_s, renew_s, ping_s = pauses
    renew_at, busy = monotonic() + renew_s, False
    while not closing.is_set():
        wait_s = renew_at - monotonic()
        if busy:
            wait_s = min(wait_s, idle_s)
        changed.wait(max(0.0, wait_s if ping_s is None else min(wait_s, ping_s)))
        changed.clear()
        one = ledger()
        if one is None:
            return
        pause_s = one.pause_s
        del one
        if closing.wait(min(pause_s, renew_s)) or (one := ledger()) is None:
            return
        renewing = monotonic() >= renew_at
        if renewing:
            renew_at = monotonic() + renew_s
        one.report(everything=renewing)
        busy = one.waiting or one.health.away
        del one
