"""Puts the shadower together from what the policies ask for: shadow requests, promises, canaries, drift, grading."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cascade.engine.runtime import Runtime
from cascade.errors import PolicyError
from cascade.policy.schema import Policy

from .canary_monitor import make_monitor
from .drift_monitor import DriftMonitor
from .grading import GradingQueues, GradingSetup, open_grader
from .monitor import Monitor
from .promise_monitor import PromiseMonitor
from .shadower import Shadower

if TYPE_CHECKING:
    from cascade.journal.journal import Journal
    from cascade.journal.store import SqlStore
    from cascade.telemetry import Telemetry


def open_shadower(
    policies: Mapping[str, Policy], runtime: Runtime, journal: "Journal | None", telemetry: "Telemetry | None"
) -> Shadower:
    """The shadower of policies of which at least one has ``shadow`` or ``drift``.

    Args:
        policies: All policies by name.
        runtime: Compiles them, and replaces one whose promise is broken.
        journal: Keeps the records of shadow requests, promises, canaries and drift.
        telemetry: Receives what is found; None: nothing does.

    Returns:
        The shadower. Its thread is started by the first run that needs it.

    Raises:
        PolicyError: There is no journal, or a grader cannot be used.
    """
    shadowed = [name for name, policy in policies.items() if policy.shadow is not None]
    watched = [name for name, policy in policies.items() if policy.drift is not None]
    if journal is None:
        which = f"{shadowed[0]}.shadow" if shadowed else f"{watched[0]}.drift"
        raise PolicyError(f"policies.{which}: needs a journal, which keeps its records; give journal=")
    replace = runtime.replace_policy
    on_promise = None if telemetry is None else telemetry.promise
    promises = PromiseMonitor(policies, journal.promise_book(), replace, on_promise)
    on_canary = None if telemetry is None else telemetry.canary
    monitor: Monitor = make_monitor(policies, promises, journal.canary_book, replace=replace, on_state=on_canary)
    if watched:
        on_drift = None if telemetry is None else telemetry.drift
        monitor = DriftMonitor(policies, journal.drift_book(), monitor, on_drift)
    return Shadower(
        runtime.compile,
        journal.shadow_book(),
        shadowed,
        monitor,
        on_outcome=None if telemetry is None else telemetry.shadow,
        gradings=_gradings(policies, runtime, journal.connect),
    )


def _gradings(policies: Mapping[str, Policy], runtime: Runtime, connect: "Callable[[], SqlStore]") -> GradingQueues | None:
    """The graders of the policies that grade at once. Raises PolicyError where one cannot be used."""
    specs = {name: policy.shadow for name, policy in policies.items() if policy.shadow is not None}
    if all(spec.grade is None for spec in specs.values()):
        return None
    return GradingQueues(
        {
            name: open_grader(GradingSetup(policy=name, spec=spec, connect=connect, model=runtime.model))
            for name, spec in specs.items()
            if spec.grade is not None
        }
    )
